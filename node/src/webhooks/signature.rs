//! Owns what proves to a receiver that a delivery is Everdesk's and fresh. Does not send it. Invariant: the signature covers id, time and
//! body. Source: the Standard Webhooks specification, 1.0.

use base64ct::{Base64, Encoding};
use cluster::meta::WebhookSecretRow;
use ring::hmac;

/// Bytes of a secret.
pub const SECRET_BYTES: usize = 32;

/// A secret as its owner gets it.
pub fn secret_text(secret: &[u8]) -> String {
    format!("whsec_{}", Base64::encode_string(secret))
}

/// The value of `webhook-signature`: one signature of each secret that is good at that time.
pub fn sign(secrets: &WebhookSecretRow, id: &str, at_ms: u64, body: &str) -> String {
    let signed = format!("{id}.{}.{body}", at_ms / 1_000);
    let before = secrets.before.iter().filter(|(_, until_ms)| at_ms < *until_ms).map(|(secret, _)| secret);
    let signatures = std::iter::once(&secrets.secret).chain(before).map(|secret| {
        let key = hmac::Key::new(hmac::HMAC_SHA256, &secret.0);
        format!("v1,{}", Base64::encode_string(hmac::sign(&key, signed.as_bytes()).as_ref()))
    });
    signatures.collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proto::command::SecretBytes;

    #[test]
    fn a_signature_is_that_of_the_specification_and_the_secret_before_signs_for_a_while() {
        // The example of the specification's own libraries.
        let secret = Base64::decode_vec("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").unwrap();
        let (id, at_ms, body) = ("msg_p5jXN8AQM9LWM0D4loKWxJek", 1_614_265_330_000, r#"{"test": 2432232314}"#);
        let known = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=";
        let secrets = WebhookSecretRow { secret: SecretBytes(secret.clone()), before: None };
        assert_eq!(sign(&secrets, id, at_ms, body), known);
        assert_eq!(secret_text(&secret), "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw");
        let rotated =
            WebhookSecretRow { secret: SecretBytes(vec![1; 32]), before: Some((SecretBytes(secret), at_ms + 1)) };
        let both = sign(&rotated, id, at_ms, body);
        assert!(both.ends_with(&format!(" {known}")) && both.len() == 2 * known.len() + 1, "{both}");
        let later = sign(&rotated, id, at_ms + 1, body);
        assert_eq!(later.split(' ').count(), 1);
    }
}
