//! Owns the tests of what files are taken for and what becomes of images: what they hide, how large they grow, what does not decode.

use super::*;
use image::{Frame, Rgb, RgbImage, Rgba, RgbaImage};

/// What a decoder makes of it, by its bytes.
fn decoded(bytes: &[u8]) -> DynamicImage {
    image::load_from_memory(bytes).unwrap()
}

fn encoded(image: &DynamicImage, form: ImageFormat) -> Vec<u8> {
    let mut out = Cursor::new(Vec::new());
    image.write_to(&mut out, form).unwrap();
    out.into_inner()
}

/// Left half red, right half blue.
fn halves(width: u32, height: u32) -> DynamicImage {
    let color = |x, _| if x < width / 2 { Rgb([255, 0, 0]) } else { Rgb([0, 0, 255]) };
    DynamicImage::ImageRgb8(RgbImage::from_fn(width, height, color))
}

/// A JPEG with EXIF behind its first marker: turned by 90 degrees, taken somewhere.
fn with_exif(jpeg: &[u8]) -> Vec<u8> {
    let mut tiff = b"MM\0\x2a\0\0\0\x08".to_vec();
    // Two entries: orientation 6, and the place of a directory about where it was taken.
    tiff.extend(b"\0\x02\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\x88\x25\0\x04\0\0\0\x01\0\0\0\x26\0\0\0\0");
    tiff.extend(b"\0\x01\0\x01\0\x02\0\0\0\x02N\0\0\0\0\0\0\0GPS-52.5200N-13.4050E");
    let mut segment = b"Exif\0\0".to_vec();
    segment.extend(tiff);
    let mut out = jpeg[..2].to_vec();
    out.extend([0xff, 0xe1]);
    out.extend((segment.len() as u16 + 2).to_be_bytes());
    out.extend(segment);
    out.extend(&jpeg[2..]);
    out
}

fn has(bytes: &[u8], what: &[u8]) -> bool {
    bytes.windows(what.len()).any(|at| at == what)
}

#[test]
fn an_image_is_turned_upright_and_loses_where_it_was_taken() {
    let sent = with_exif(&encoded(&halves(64, 32), ImageFormat::Jpeg));
    assert!(has(&sent, b"GPS-52") && has(&sent, b"Exif"));
    let kept = anew("photo.JPG".into(), sent);
    assert_eq!((kept.media.as_str(), kept.name.as_str()), ("image/jpeg", "photo.jpg"));
    assert_eq!((kept.width, kept.height), (32, 64), "turned by a quarter");
    assert!(!has(&kept.bytes, b"GPS-52") && !has(&kept.bytes, b"Exif"));
    let image = decoded(&kept.bytes).to_rgb8();
    assert_eq!(image.dimensions(), (32, 64));
    assert!(image.get_pixel(16, 5)[0] > 200 && image.get_pixel(16, 60)[2] > 200, "what was left is above");
}

#[test]
fn nothing_stays_of_what_stands_behind_or_beside_the_pixels() {
    for form in [ImageFormat::Png, ImageFormat::Jpeg, ImageFormat::Gif, ImageFormat::WebP] {
        let mut sent = encoded(&halves(40, 40), form);
        sent.extend(b"<script>alert(1)</script>PK\x03\x04 another file");
        let kept = anew("x.bin".into(), sent);
        assert!(kept.width == 40 && kept.media.starts_with("image/"), "{form:?} {}", kept.media);
        assert!(!has(&kept.bytes, b"<script>"), "{form:?}");
        assert!(decoded(&kept.bytes).width() == 40, "{form:?}");
    }
}

#[test]
fn forms_become_what_every_browser_shows_and_keep_what_one_can_see_through() {
    let clear = DynamicImage::ImageRgba8(RgbaImage::from_pixel(500, 20, Rgba([1, 2, 3, 90])));
    for (image, form, media, name) in [
        (halves(50, 20), ImageFormat::Png, "image/png", "a.png"),
        (halves(50, 20), ImageFormat::Jpeg, "image/jpeg", "a.jpg"),
        (halves(50, 20), ImageFormat::WebP, "image/jpeg", "a.jpg"),
        (clear.clone(), ImageFormat::WebP, "image/png", "a.png"),
        (clear.clone(), ImageFormat::Png, "image/png", "a.png"),
        (halves(50, 20), ImageFormat::Gif, "image/png", "a.png"),
    ] {
        let kept = anew("a.whatever".into(), encoded(&image, form));
        assert_eq!((kept.media.as_str(), kept.name.as_str()), (media, name), "{form:?}");
        assert_eq!(
            decoded(&kept.bytes).color().has_alpha(),
            media == "image/png" && form != ImageFormat::Png || image == clear
        );
    }
    let kept = anew("a".into(), encoded(&clear, ImageFormat::Png));
    assert_eq!(decoded(&kept.bytes).to_rgba8().get_pixel(7, 7), &Rgba([1, 2, 3, 90]));
    let small = decoded(&kept.thumbnail);
    assert_eq!((small.width(), small.height()), (320, 13));
    assert_eq!(small.to_rgba8().get_pixel(7, 7)[3], 90);
}

#[test]
fn thumbnails_are_small_and_only_of_what_is_large() {
    for form in [ImageFormat::Png, ImageFormat::Jpeg, ImageFormat::WebP, ImageFormat::Gif] {
        let kept = anew("a.png".into(), encoded(&halves(1_600, 800), form));
        let told = ImageFormat::from_mime_type(thumbnail_media(&kept.media)).unwrap();
        assert_eq!(image::guess_format(&kept.thumbnail).unwrap(), told, "{form:?}");
        let small = decoded(&kept.thumbnail).to_rgb8();
        assert_eq!(small.dimensions(), (320, 160));
        assert!(small.get_pixel(10, 80)[0] > 200 && small.get_pixel(310, 80)[2] > 200);
    }
    assert!(anew("a.png".into(), encoded(&halves(320, 320), ImageFormat::Png)).thumbnail.is_empty());
}

fn animated(width: u32, height: u32, frames: usize) -> Vec<u8> {
    let mut out = Vec::new();
    let mut encoder = GifEncoder::new_with_speed(&mut out, GIF_SPEED);
    for number in 0..frames {
        let color = Rgba([(number * 40) as u8, 0, 0, 255]);
        encoder.encode_frame(Frame::new(RgbaImage::from_pixel(width, height, color))).unwrap();
    }
    drop(encoder);
    out
}

#[test]
fn what_moves_goes_on_moving_within_limits() {
    let kept = anew("a.gif".into(), animated(400, 300, 5));
    assert_eq!((kept.media.as_str(), kept.width, kept.height), ("image/gif", 400, 300));
    let frames = GifDecoder::new(Cursor::new(&kept.bytes)).unwrap().into_frames().count();
    assert_eq!((frames, decoded(&kept.thumbnail).width()), (5, 320));
    // One with too many frames stands still.
    let kept = anew("a.gif".into(), animated(8, 8, FRAMES_MAX + 1));
    assert_eq!((kept.media.as_str(), kept.name.as_str()), ("image/png", "a.png"));
}

/// A PNG of a few bytes that says it is as large as that.
fn bomb(width: u32, height: u32) -> Vec<u8> {
    let mut png = encoded(&halves(8, 8), ImageFormat::Png);
    png[16..20].copy_from_slice(&width.to_be_bytes());
    png[20..24].copy_from_slice(&height.to_be_bytes());
    let crc = crc32(&png[12..29]);
    png[29..33].copy_from_slice(&crc.to_be_bytes());
    png
}

fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0_u32, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| if crc & 1 == 1 { crc >> 1 ^ 0xedb8_8320 } else { crc >> 1 })
    })
}

#[test]
fn a_bomb_is_kept_as_a_file_that_nobody_looks_into() {
    for (width, height) in [(60_000, 60_000), (SIDE_PIXELS_MAX + 1, 1), (8_000, 8_000), (u32::MAX, u32::MAX)] {
        let sent = bomb(width, height);
        let kept = anew("bomb.png".into(), sent.clone());
        assert_eq!((kept.media.as_str(), kept.width, kept.thumbnail.len()), (OCTETS, 0, 0), "{width} x {height}");
        assert_eq!((kept.bytes, kept.name.as_str()), (sent, "bomb.png"));
    }
}

#[test]
fn what_only_looks_like_an_image_is_a_file_of_no_known_type() {
    let png = encoded(&halves(64, 64), ImageFormat::Png);
    let gif = encoded(&halves(64, 64), ImageFormat::Gif);
    for sent in [
        png[..40].to_vec(),
        [&png[..60], b"<script>alert(1)</script>"].concat(),
        b"GIF89a/*<script>alert(1)</script>*/=1".to_vec(),
        gif[..20].to_vec(),
        b"\xff\xd8\xff\xe0 not a JPEG".to_vec(),
        b"RIFF\x04\0\0\0WEBPVP8 ".to_vec(),
    ] {
        assert!(is_picture(&sent));
        let kept = anew("x.png".into(), sent.clone());
        assert_eq!((kept.media.as_str(), kept.width, kept.bytes), (OCTETS, 0, sent));
    }
}

#[test]
fn the_type_is_what_the_bytes_say() {
    for (bytes, media) in [
        (&b"%PDF-1.7 ..."[..], "application/pdf"),
        (b"PK\x03\x04..............................", "application/zip"),
        (b"just words", "text/plain"),
        ("grüße".as_bytes(), "text/plain"),
        (b"<!DOCTYPE html><p>x", "text/html"),
        (b"  <HTML><script>x</script>", "text/html"),
        (b"hello <script>alert(1)</script>", "text/html"),
        (b"<?xml version=\"1.0\"?><svg xmlns=\"http://www.w3.org/2000/svg\"/>", "image/svg+xml"),
        (b"<svg onload=\"alert(1)\">", "image/svg+xml"),
        (b"<?xml version=\"1.0\"?><note/>", "text/xml"),
        (b"\x00\x01\x02\x03", OCTETS),
        (b"\xff\xfe\xfd", OCTETS),
    ] {
        assert!(!is_picture(bytes));
        let kept = as_file("a.png".into(), bytes.to_vec());
        assert_eq!((kept.media.as_str(), kept.name.as_str(), kept.width), (media, "a.png", 0), "{bytes:?}");
        assert_eq!(kept.bytes, bytes);
    }
    // A character that is cut by the look at it.
    let long = "ü".repeat(TEXT_LOOK_BYTES);
    assert_eq!(as_file("a".into(), format!("x{long}").into_bytes()).media, "text/plain");
}
