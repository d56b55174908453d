//! Owns addresses that are good without a token, because an `<img>` cannot send one: signed, and for a short time. Does not serve what is
//! there. Invariant: who has the address of one attachment has that of no other, and of this one not for ever.
//! The key is the attachment's own: it was drawn with it, is kept where it is kept, and goes when it goes.

use proto::attachment::{Attachment, UrlSecret, Variant};
use proto::client;
use proto::ids::{AttachmentId, SessionId};
use ring::hmac;
use std::borrow::Cow;

/// Addresses change at full hours, so that browsers may keep what they have read for a while.
const HOUR_S: u64 = 3_600;
/// Bytes of a signature: half of an HMAC-SHA256.
const SIGN_BYTES: usize = 16;

/// Where browsers may show it, or else where it is to be saved from.
pub fn path(session: SessionId, id: AttachmentId, is_image: bool, variant: Variant) -> String {
    match (is_image, variant) {
        (false, _) => format!("/v1/files/{session}/{id}"),
        (true, Variant::Whole) => format!("/v1/images/{session}/{id}"),
        (true, Variant::Thumbnail) => format!("/v1/images/{session}/{id}/thumbnail"),
    }
}

fn sign(secret: UrlSecret, path: &str, until_s: u64) -> [u8; SIGN_BYTES] {
    let key = hmac::Key::new(hmac::HMAC_SHA256, &secret.0);
    let tag = hmac::sign(&key, format!("{path}\n{until_s}").as_bytes());
    tag.as_ref().first_chunk().copied().unwrap_or_default()
}

/// The address for the rest of this hour and the whole of the next.
fn signed(secret: UrlSecret, path: &str, now_ms: u64) -> String {
    let until_s = (now_ms / 1_000 / HOUR_S + 2) * HOUR_S;
    let sign = crate::backup::chunk::hex(&sign(secret, path, until_s));
    format!("{path}?until={until_s}&sign={sign}")
}

/// Whether an address of that path is signed so, and not over.
pub fn is_good(secret: UrlSecret, path: &str, (until_s, text): (u64, &str), now_ms: u64) -> bool {
    let expected = crate::backup::chunk::hex(&sign(secret, path, until_s));
    // In a time that does not depend on where they differ.
    let differing = expected.bytes().zip(text.bytes()).fold(0, |differing, (a, b)| differing | (a ^ b));
    let is_same = std::hint::black_box(differing) == 0 && expected.len() == text.len();
    is_same && now_ms / 1_000 < until_s
}

/// An attachment as a client is told of it now.
pub fn for_client(session: SessionId, attachment: &Attachment, now_ms: u64) -> client::Attachment<'_> {
    let Attachment { id, name, media, bytes, width, height, thumbnail, secret } = attachment;
    let is_image = attachment.is_image();
    let at = |variant| signed(*secret, &path(session, *id, is_image, variant), now_ms);
    // An image that is small enough is its own.
    let small = if *thumbnail > 0 { Variant::Thumbnail } else { Variant::Whole };
    client::Attachment {
        id: *id,
        name: Cow::Borrowed(name),
        media: Cow::Borrowed(media),
        bytes: *bytes,
        width: is_image.then_some(*width),
        height: is_image.then_some(*height),
        url: Cow::Owned(at(Variant::Whole)),
        thumbnail: is_image.then(|| Cow::Owned(at(small))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SESSION: SessionId = SessionId(0xabc);
    const SECRET: UrlSecret = UrlSecret([7; 16]);
    const NOW_MS: u64 = 1_763_700_000_000;

    fn parts(address: &str) -> (&str, u64, &str) {
        let (path, query) = address.split_once('?').unwrap();
        let (until, sign) = query.split_once('&').unwrap();
        (path, until.strip_prefix("until=").unwrap().parse().unwrap(), sign.strip_prefix("sign=").unwrap())
    }

    #[test]
    fn an_address_is_good_for_its_path_and_attachment_until_its_time_is_over() {
        let path = path(SESSION, AttachmentId(5), true, Variant::Whole);
        let address = signed(SECRET, &path, NOW_MS);
        let (named, until_s, sign) = parts(&address);
        assert_eq!(named, path);
        assert!((HOUR_S..=2 * HOUR_S).contains(&(until_s - NOW_MS / 1_000)));
        assert!(is_good(SECRET, &path, (until_s, sign), NOW_MS));
        assert!(is_good(SECRET, &path, (until_s, sign), until_s * 1_000 - 1));
        assert!(!is_good(SECRET, &path, (until_s, sign), until_s * 1_000), "its time is over");
        assert!(!is_good(SECRET, &path, (until_s + 1, sign), NOW_MS), "a longer time is not signed");
        assert!(!is_good(UrlSecret([8; 16]), &path, (until_s, sign), NOW_MS), "another attachment");
        for other in [
            super::path(SESSION, AttachmentId(6), true, Variant::Whole),
            super::path(SessionId(1), AttachmentId(5), true, Variant::Whole),
            super::path(SESSION, AttachmentId(5), true, Variant::Thumbnail),
            super::path(SESSION, AttachmentId(5), false, Variant::Whole),
        ] {
            assert!(!is_good(SECRET, &other, (until_s, sign), NOW_MS), "{other}");
        }
        let flipped = format!("{}0", &sign[..sign.len() - 1]);
        for wrong in ["", "0", &sign[1..], &format!("{sign}0"), &sign.to_uppercase(), &flipped] {
            assert!(wrong == sign || !is_good(SECRET, &path, (until_s, wrong), NOW_MS), "{wrong:?}");
        }
    }

    #[test]
    fn addresses_stay_the_same_within_an_hour_and_change_with_it() {
        let at = |ms| signed(SECRET, "/v1/files/a/b", ms);
        let hour_ms = NOW_MS - NOW_MS % (HOUR_S * 1_000);
        assert_eq!(at(hour_ms), at(hour_ms + HOUR_S * 1_000 - 1));
        assert_ne!(at(hour_ms), at(hour_ms + HOUR_S * 1_000));
    }

    #[test]
    fn only_images_have_a_size_and_a_place_among_images() {
        let file = Attachment {
            id: AttachmentId(5),
            name: "a.svg".into(),
            media: "image/svg+xml".into(),
            bytes: 9,
            width: 0,
            height: 0,
            thumbnail: 0,
            secret: SECRET,
        };
        let told = for_client(SESSION, &file, NOW_MS);
        assert!(told.url.starts_with("/v1/files/") && told.width.is_none() && told.thumbnail.is_none());
        let image = Attachment { width: 640, height: 480, thumbnail: 99, ..file.clone() };
        let told = for_client(SESSION, &image, NOW_MS);
        assert!(told.url.starts_with("/v1/images/") && told.thumbnail.unwrap().contains("/thumbnail?"));
        let small = Attachment { width: 64, height: 48, ..file };
        let told = for_client(SESSION, &small, NOW_MS);
        assert_eq!(told.thumbnail.as_ref(), Some(&told.url));
    }
}
