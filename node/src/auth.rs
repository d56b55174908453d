//! Owns tokens and passwords: drawing, reading, hashing. Does not know where a hash is stored.
//! Invariant: a secret leaves this file once, to its owner; everything kept is a hash.

use argon2::password_hash::{Ident, PasswordHash, PasswordHasher, PasswordVerifier, SaltString};
use argon2::{Algorithm, Argon2, Params, Version};
use proto::client::limits::TOKEN_BYTES_MAX;
use proto::command::TokenHash;
use proto::ids::{AgentId, SessionId};
use sha2::{Digest, Sha256};
use std::fmt;
use std::io::Read;
use std::path::Path;
use std::sync::LazyLock;

/// Characters of a token's secret part, 6 random bits each: 258 bits.
const SECRET_CHARS: usize = 43;
/// Characters of a generated password, 6 random bits each: 120 bits.
const PASSWORD_CHARS: usize = 20;
/// 64 characters that need no quoting anywhere: base64url's.
const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
const SALT_BYTES: usize = 16;
/// Shortest admin token that somebody else drew, in characters: 128 bits as hexadecimal digits.
const ADMIN_TOKEN_CHARS_MIN: usize = 32;
/// Shortest password of an agent, in bytes.
pub const PASSWORD_BYTES_MIN: usize = 8;
/// Longest password, in bytes.
pub const PASSWORD_BYTES_MAX: usize = 1024;

/// Whom a token speaks for. Only the shard knows whether the token is valid.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bearer {
    /// `v1.<session>.<secret>`
    Visitor { session: SessionId },
    /// `a1.<agent>.<secret>`
    Agent { agent: AgentId },
}

/// A secret text that does not show up in logs.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

/// Why a secret could not be made or checked.
#[derive(Debug, thiserror::Error)]
pub enum AuthError {
    /// The system gives no random bytes: nothing can be done here.
    #[error("no randomness: {0}")]
    NoRandomness(String),
    /// The hash could not be computed; the password is not at fault.
    #[error("password hash: {0}")]
    Hash(String),
    /// The file that was named as the admin token cannot serve; the text says why.
    #[error("admin token file {0}")]
    TokenFile(String),
}

impl Secret {
    pub fn new(text: String) -> Secret {
        Secret(text)
    }

    /// The text itself, for its owner.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// What is stored in place of the text.
    pub fn hash(&self) -> TokenHash {
        hash_token(&self.0)
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

impl std::str::FromStr for Secret {
    type Err = std::convert::Infallible;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(Secret(text.to_owned()))
    }
}

/// Draws a token for this bearer.
/// # Errors
/// `NoRandomness`.
pub fn mint_token(bearer: Bearer) -> Result<Secret, AuthError> {
    let secret = random_text(SECRET_CHARS)?;
    Ok(Secret(match bearer {
        Bearer::Visitor { session } => format!("v1.{session}.{secret}"),
        Bearer::Agent { agent } => format!("a1.{agent}.{secret}"),
    }))
}

/// Draws a token that names nobody: for joining, or for administration. `kind` tells people what they found.
/// # Errors
/// `NoRandomness`.
pub fn mint_plain_token(kind: &str) -> Result<Secret, AuthError> {
    Ok(Secret(format!("{kind}.{}", random_text(SECRET_CHARS)?)))
}

/// Reads an admin token that somebody else drew; blanks around it do not count.
/// # Errors
/// `TokenFile`.
pub fn read_admin_token(file: &Path) -> Result<Secret, AuthError> {
    let wrong = |why: &str| AuthError::TokenFile(format!("{}: {why}", file.display()));
    let mut text = String::new();
    let opened = std::fs::File::open(file).map_err(|error| wrong(&error.to_string()))?;
    opened.take(4 << 10).read_to_string(&mut text).map_err(|error| wrong(&error.to_string()))?;
    checked_admin_token(&text).map_err(|why| wrong(&why))
}

/// The admin token in a file's text.
pub(crate) fn checked_admin_token(text: &str) -> Result<Secret, String> {
    let token = text.trim();
    if !(ADMIN_TOKEN_CHARS_MIN..=TOKEN_BYTES_MAX).contains(&token.len()) {
        return Err(format!("an admin token has {ADMIN_TOKEN_CHARS_MIN} to {TOKEN_BYTES_MAX} characters"));
    }
    if !token.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err("an admin token has no blanks and only ASCII characters".into());
    }
    Ok(Secret::new(token.to_owned()))
}

/// Draws a password for a person.
/// # Errors
/// `NoRandomness`.
pub fn mint_password() -> Result<Secret, AuthError> {
    random_text(PASSWORD_CHARS).map(Secret)
}

/// Whom the token claims to speak for, and the hash by which the shard checks that. `None`: no token of ours.
pub fn parse_token(text: &str) -> Option<(Bearer, TokenHash)> {
    if text.len() > TOKEN_BYTES_MAX {
        return None;
    }
    let (kind, rest) = text.split_once('.')?;
    let (id, secret) = rest.split_once('.')?;
    if secret.len() != SECRET_CHARS || !secret.bytes().all(|byte| ALPHABET.contains(&byte)) {
        return None;
    }
    let bearer = match kind {
        "v1" => Bearer::Visitor { session: id.parse().ok()? },
        "a1" => Bearer::Agent { agent: id.parse().ok()? },
        _ => return None,
    };
    Some((bearer, hash_token(text)))
}

/// SHA-256 of the whole text. Tokens are random, so a slow hash would add nothing.
pub fn hash_token(text: &str) -> TokenHash {
    Sha256::digest(text.as_bytes()).into()
}

/// Compares in a time that does not depend on where the hashes differ.
pub fn same_hash(one: &TokenHash, other: &TokenHash) -> bool {
    let differing = one.iter().zip(other).fold(0, |differing, (a, b)| differing | (a ^ b));
    std::hint::black_box(differing) == 0
}

/// argon2id in PHC form. Takes about 30 ms and 19 MiB: never on an async thread.
/// # Errors
/// `NoRandomness` or `Hash`.
pub fn hash_password(password: &str) -> Result<String, AuthError> {
    let mut salt = [0; SALT_BYTES];
    getrandom::fill(&mut salt).map_err(|error| AuthError::NoRandomness(error.to_string()))?;
    let wrong = |error: argon2::password_hash::Error| AuthError::Hash(error.to_string());
    let salt = SaltString::encode_b64(&salt).map_err(wrong)?;
    Ok(hasher().hash_password(password.as_bytes(), &salt).map_err(wrong)?.to_string())
}

/// Checks a password; without a stored hash it takes as long and says no, so that time does not tell which names exist.
/// Never on an async thread.
/// # Errors
/// `Hash` when the stored text is no argon2id hash.
pub fn verify_password(password: &str, stored: Option<&str>) -> Result<bool, AuthError> {
    let wrong = |error: argon2::password_hash::Error| AuthError::Hash(error.to_string());
    let parsed = PasswordHash::new(stored.unwrap_or(&NOBODY)).map_err(wrong)?;
    if parsed.algorithm != Ident::new_unwrap("argon2id") {
        return Err(AuthError::Hash("stored hash is not argon2id".into()));
    }
    match hasher().verify_password(password.as_bytes(), &parsed) {
        Ok(()) => Ok(stored.is_some()),
        Err(argon2::password_hash::Error::Password) => Ok(false),
        Err(error) => Err(wrong(error)),
    }
}

/// The hash that stands in for accounts which do not exist.
static NOBODY: LazyLock<String> = LazyLock::new(|| hash_password("").expect("the system gave randomness at start"));

/// The parameters that OWASP recommends for argon2id: 19 MiB, 2 passes, 1 lane.
fn hasher() -> Argon2<'static> {
    Argon2::new(Algorithm::Argon2id, Version::V0x13, Params::DEFAULT)
}

fn random_text(chars: usize) -> Result<String, AuthError> {
    let mut bytes = vec![0; chars];
    getrandom::fill(&mut bytes).map_err(|error| AuthError::NoRandomness(error.to_string()))?;
    Ok(bytes.into_iter().map(|byte| char::from(ALPHABET[usize::from(byte & 63)])).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_names_its_bearer_and_hashes_whole() {
        for bearer in [Bearer::Visitor { session: SessionId(7) }, Bearer::Agent { agent: AgentId(12) }] {
            let token = mint_token(bearer).expect("randomness");
            assert_eq!(parse_token(token.expose()), Some((bearer, hash_token(token.expose()))));
            assert_eq!(token.hash(), hash_token(token.expose()));
            assert!(token.expose().len() <= TOKEN_BYTES_MAX);
            assert_ne!(token, mint_token(bearer).expect("randomness"));
        }
    }

    #[test]
    fn what_we_did_not_mint_is_no_token() {
        let good = mint_token(Bearer::Agent { agent: AgentId(12) }).expect("randomness").expose().to_owned();
        let secret = good.rsplit('.').next().expect("three parts").to_owned();
        let bad = [
            String::new(),
            "a1".into(),
            "a1.a12".into(),
            "a1.a12.".into(),
            good[1..].to_owned(),
            good[..good.len() - 1].to_owned(),
            format!("{good}x"),
            format!("a1.a012.{secret}"),
            format!("a1.12.{secret}"),
            format!("v1.a12.{secret}"),
            format!("v2.a12.{secret}"),
            format!("a1.a12. {}", &secret[1..]),
            format!("a1.a99999999999999999999.{secret}"),
            "x".repeat(TOKEN_BYTES_MAX + 1),
        ];
        for text in bad {
            assert_eq!(parse_token(&text), None, "{text}");
        }
    }

    #[test]
    fn a_password_fits_only_its_own_hash() {
        let hash = hash_password("correct horse").expect("hash");
        assert!(hash.starts_with("$argon2id$"), "{hash}");
        assert!(verify_password("correct horse", Some(&hash)).expect("verify"));
        assert!(!verify_password("correct horsf", Some(&hash)).expect("verify"));
        assert!(!verify_password("", None).expect("verify"), "the stand-in is nobody's");
        assert!(verify_password("x", Some("plain")).is_err());
    }

    #[test]
    fn an_admin_token_from_a_file_is_long_and_plain() {
        let dir = tempfile::tempdir().expect("a directory");
        let file = dir.path().join("token");
        let read = |text: &str| {
            std::fs::write(&file, text).expect("written");
            read_admin_token(&file).map(|token| token.expose().to_owned()).map_err(|error| error.to_string())
        };
        let good = "0123456789abcdef0123456789abcdef";
        assert_eq!(read(&format!("{good}\n")), Ok(good.to_owned()));
        for (text, why) in [
            ("", "32 to"),
            ("short", "32 to"),
            (&good[1..], "32 to"),
            ("0123456789abcdef 0123456789abcdef", "no blanks"),
            (&"x".repeat(TOKEN_BYTES_MAX + 1), "32 to"),
        ] {
            assert!(read(text).is_err_and(|error| error.contains(why)), "{text}");
        }
        assert!(read_admin_token(&dir.path().join("none")).is_err());
    }

    #[test]
    fn secrets_do_not_show_in_logs() {
        let secret = mint_plain_token("join").expect("randomness");
        assert_eq!(format!("{secret:?}"), "***");
        assert!(same_hash(&secret.hash(), &secret.hash()));
        assert!(!same_hash(&secret.hash(), &hash_token("other")));
    }
}
