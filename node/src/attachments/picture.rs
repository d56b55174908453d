//! Owns finding out what a file is, and making images anew. Does not believe a name or a header. Invariant: an image that leaves here holds
//! pixels and nothing else (no place where it was taken, no camera, no second file behind it), and no file makes this node use more memory
//! than its limits.

use super::name;
use image::codecs::gif::{GifDecoder, GifEncoder, Repeat};
use image::codecs::jpeg::JpegEncoder;
use image::{AnimationDecoder, DynamicImage, ExtendedColorType, ImageDecoder, ImageFormat, ImageReader, Limits};
use proto::client::limits::ATTACHMENT_BYTES_MAX;
use std::io::Cursor;

/// Pixels of an image, over all of its frames; one with more is kept as a file that nobody looks into.
const PIXELS_MAX: u64 = 32_000_000;
/// Width and height of one, in pixels.
const SIDE_PIXELS_MAX: u32 = 16_384;
/// Memory of a decoder, in bytes.
const DECODER_BYTES_MAX: u64 = 192 << 20;
/// Frames of one that moves; of one with more, the first is kept.
const FRAMES_MAX: usize = 300;
/// Width and height of a thumbnail at most, in pixels.
const THUMBNAIL_PIXELS_MAX: u32 = 320;
/// Of 100.
const JPEG_QUALITY: u8 = 88;
const THUMBNAIL_QUALITY: u8 = 80;
/// How roughly the colours of a frame are chosen, of 30.
const GIF_SPEED: i32 = 30;
/// The type of a file of which nothing is known.
const OCTETS: &str = "application/octet-stream";
/// So much of a text is looked at for what it is, in bytes.
const TEXT_LOOK_BYTES: usize = 4 << 10;

/// A file as it is kept.
#[derive(Debug)]
pub struct Prepared {
    pub name: String,
    pub media: String,
    pub bytes: Vec<u8>,
    /// 0: it is no image that was made anew.
    pub width: u32,
    pub height: u32,
    /// Empty: there is none.
    pub thumbnail: Vec<u8>,
}

/// The forms that are made anew.
fn form_of(bytes: &[u8]) -> Option<ImageFormat> {
    match infer::get(bytes)?.mime_type() {
        "image/png" => Some(ImageFormat::Png),
        "image/jpeg" => Some(ImageFormat::Jpeg),
        "image/webp" => Some(ImageFormat::WebP),
        "image/gif" => Some(ImageFormat::Gif),
        _ => None,
    }
}

pub fn is_picture(bytes: &[u8]) -> bool {
    form_of(bytes).is_some()
}

/// What is no image, or none that is shown: it stays as it is.
pub fn as_file(name: String, bytes: Vec<u8>) -> Prepared {
    let media = sniffed(&bytes).to_owned();
    Prepared { name, media, bytes, width: 0, height: 0, thumbnail: Vec::new() }
}

/// The media type that the bytes say.
fn sniffed(bytes: &[u8]) -> &'static str {
    let start = &bytes[..bytes.len().min(TEXT_LOOK_BYTES)];
    // A character may be cut in two at the end.
    let is_text = match std::str::from_utf8(start) {
        Ok(_) => true,
        Err(error) => error.valid_up_to() + 4 > start.len() && bytes.len() > start.len(),
    };
    if !is_text || start.contains(&0) {
        return infer::get(bytes).map_or(OCTETS, |kind| kind.mime_type());
    }
    let text = String::from_utf8_lossy(start).to_ascii_lowercase();
    let has = |mark: &str| text.contains(mark);
    match () {
        () if has("<svg") => "image/svg+xml",
        () if has("<!doctype html") || has("<html") || has("<script") || has("<body") => "text/html",
        () if text.trim_start_matches('\u{feff}').trim_start().starts_with("<?xml") => "text/xml",
        () => infer::get(bytes).map_or("text/plain", |kind| kind.mime_type()),
    }
}

/// An image made anew out of its pixels; what cannot be decoded within the limits stays a file of no known type. Takes long: never on an
/// async thread.
pub fn anew(name: String, bytes: Vec<u8>) -> Prepared {
    // A decoder that panics has found something that it does not understand.
    let made = std::panic::catch_unwind(|| remade(&name, &bytes)).ok().flatten();
    match made {
        Some(made) if made.bytes.len() <= ATTACHMENT_BYTES_MAX => made,
        _ => Prepared { name, media: OCTETS.into(), bytes, width: 0, height: 0, thumbnail: Vec::new() },
    }
}

fn limits() -> Limits {
    let mut limits = Limits::default();
    limits.max_image_width = Some(SIDE_PIXELS_MAX);
    limits.max_image_height = Some(SIDE_PIXELS_MAX);
    limits.max_alloc = Some(DECODER_BYTES_MAX);
    limits
}

fn remade(name: &str, bytes: &[u8]) -> Option<Prepared> {
    let form = form_of(bytes)?;
    let mut reader = ImageReader::with_format(Cursor::new(bytes), form);
    reader.limits(limits());
    let mut decoder = reader.into_decoder().ok()?;
    let (width, height) = decoder.dimensions();
    // Before a single pixel is decoded: a bomb is small until then.
    if u64::from(width) * u64::from(height) > PIXELS_MAX || decoder.total_bytes() > DECODER_BYTES_MAX {
        return None;
    }
    let orientation = decoder.orientation().ok()?;
    let mut image = DynamicImage::from_decoder(decoder).ok()?;
    image.apply_orientation(orientation);
    let (width, height) = (image.width(), image.height());
    let moving = if form == ImageFormat::Gif { moving(bytes, width, height) } else { None };
    let (kept, ending, media) = match moving {
        Some(frames) => (frames, "gif", "image/gif"),
        None => still(&image, form)?,
    };
    let is_large = width.max(height) > THUMBNAIL_PIXELS_MAX;
    let thumbnail = if is_large { thumbnail(&image, media)? } else { Vec::new() };
    let name = name::with_ending(name, ending);
    Some(Prepared { name, media: media.into(), bytes: kept, width, height, thumbnail })
}

type Encoded = (Vec<u8>, &'static str, &'static str);

/// PNG stays PNG, and so does what one can see through; the rest becomes JPEG.
fn still(image: &DynamicImage, form: ImageFormat) -> Option<Encoded> {
    let is_exact = matches!(form, ImageFormat::Png | ImageFormat::Gif) || image.color().has_alpha();
    if is_exact && let Some(bytes) = png(image).filter(|bytes| bytes.len() <= ATTACHMENT_BYTES_MAX) {
        return Some((bytes, "png", "image/png"));
    }
    Some((jpeg(image, JPEG_QUALITY)?, "jpg", "image/jpeg"))
}

fn png(image: &DynamicImage) -> Option<Vec<u8>> {
    let mut out = Cursor::new(Vec::new());
    // 16 bits for a colour are for printers.
    let image = match image {
        DynamicImage::ImageRgb16(_) | DynamicImage::ImageRgb32F(_) => DynamicImage::ImageRgb8(image.to_rgb8()),
        DynamicImage::ImageLuma16(_) => DynamicImage::ImageLuma8(image.to_luma8()),
        DynamicImage::ImageRgba16(_) | DynamicImage::ImageRgba32F(_) | DynamicImage::ImageLumaA16(_) => {
            DynamicImage::ImageRgba8(image.to_rgba8())
        }
        _ => return image.write_to(&mut out, ImageFormat::Png).ok().map(|()| out.into_inner()),
    };
    image.write_to(&mut out, ImageFormat::Png).ok().map(|()| out.into_inner())
}

fn jpeg(image: &DynamicImage, quality: u8) -> Option<Vec<u8>> {
    let mut out = Vec::new();
    let mut encoder = JpegEncoder::new_with_quality(&mut out, quality);
    let (width, height) = (image.width(), image.height());
    match image {
        DynamicImage::ImageRgb8(pixels) => encoder.encode(pixels, width, height, ExtendedColorType::Rgb8),
        DynamicImage::ImageLuma8(pixels) => encoder.encode(pixels, width, height, ExtendedColorType::L8),
        other => encoder.encode(&other.to_rgb8(), width, height, ExtendedColorType::Rgb8),
    }
    .ok()?;
    Some(out)
}

/// The type of the thumbnail of what is kept as `media`.
pub fn thumbnail_media(media: &str) -> &'static str {
    if media == "image/jpeg" { "image/jpeg" } else { "image/png" }
}

fn thumbnail(image: &DynamicImage, media: &str) -> Option<Vec<u8>> {
    let small = image.thumbnail(THUMBNAIL_PIXELS_MAX, THUMBNAIL_PIXELS_MAX);
    if thumbnail_media(media) == "image/png" { png(&small) } else { jpeg(&small, THUMBNAIL_QUALITY) }
}

/// Frame by frame, so that no more than one is in memory; `None`: it does not move, or too much.
fn moving(bytes: &[u8], width: u32, height: u32) -> Option<Vec<u8>> {
    let mut decoder = GifDecoder::new(Cursor::new(bytes)).ok()?;
    decoder.set_limits(limits()).ok()?;
    let frame_pixels = u64::from(width) * u64::from(height);
    let mut out = Vec::new();
    let mut count = 0;
    {
        let mut encoder = GifEncoder::new_with_speed(&mut out, GIF_SPEED);
        encoder.set_repeat(Repeat::Infinite).ok()?;
        for frame in decoder.into_frames() {
            count += 1;
            if count > FRAMES_MAX || count as u64 * frame_pixels > PIXELS_MAX {
                return None;
            }
            encoder.encode_frame(frame.ok()?).ok()?;
        }
    }
    (count > 1 && out.len() <= ATTACHMENT_BYTES_MAX).then_some(out)
}

#[cfg(test)]
#[path = "picture_tests.rs"]
mod tests;
