//! Owns the proofs by which a site's own pages say who a visitor is: a signed token, or the HMAC of a name. Does not open sessions.
//! Invariant: the algorithm is HMAC-SHA256, whatever a token says of itself, and a proof is of one site.

use crate::auth::hash_token;
use base64ct::{Base64UrlUnpadded, Encoding};
use proto::command::{SecretBytes, TokenHash};
use ring::hmac;
use serde::Deserialize;

/// Longest token, in bytes.
const TOKEN_BYTES_MAX: usize = 4 << 10;
/// Longest name of a user, and of a token, in bytes.
const NAME_BYTES_MAX: usize = 128;
/// A token is good for so long at most, in seconds.
const LIFE_S_MAX: u64 = 86_400;
/// The clocks of two machines differ by so much, in seconds.
const LEEWAY_S: u64 = 60;
/// Hexadecimal digits of an HMAC.
const HASH_CHARS: usize = 64;

/// What a page gives to prove who its visitor is.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Given {
    /// A JSON web token, HS256, with `sub`, `aud`, `exp` and `jti`.
    Token(String),
    /// A user's name and its HMAC-SHA256, hexadecimal.
    Hmac { user: String, hash: String },
}

/// Who a visitor is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Proven {
    /// As the site names its users.
    pub user: String,
    pub name: Option<String>,
    pub email: Option<String>,
    /// The same proof has the same; an HMAC, which ends with its key only, has a new one each time.
    pub proof: TokenHash,
    /// Milliseconds since 1970.
    pub until_ms: u64,
}

/// Why a proof is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum IdentityError {
    #[error("the site has no identity key")]
    NoKey,
    #[error("the token is not a JSON web token signed with HS256 by a key of this site")]
    Unsigned,
    #[error("the token needs sub, aud, exp and jti: aud names this site, exp is at most a day ahead")]
    Claims,
    #[error("the token is over")]
    Expired,
}

#[derive(Deserialize)]
struct Header {
    alg: String,
    kid: Option<String>,
    /// Extensions that must be understood: none is.
    crit: Option<serde_json::Value>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Audience {
    One(String),
    Many(Vec<String>),
}

#[derive(Deserialize)]
struct Claims {
    sub: String,
    aud: Audience,
    exp: u64,
    jti: String,
    nbf: Option<u64>,
    name: Option<String>,
    email: Option<String>,
}

/// Who the visitor is whom a page of the site named `site` vouches for.
/// # Errors
/// It does not.
pub fn verify(keys: &[(String, SecretBytes)], site: &str, given: &Given, now_ms: u64) -> Result<Proven, IdentityError> {
    if keys.is_empty() {
        return Err(IdentityError::NoKey);
    }
    match given {
        Given::Token(token) => of_token(keys, site, token, now_ms),
        Given::Hmac { user, hash } => of_hmac(keys, user, hash, now_ms),
    }
}

fn is_signed(secret: &SecretBytes, message: &[u8], signature: &[u8]) -> bool {
    hmac::verify(&hmac::Key::new(hmac::HMAC_SHA256, &secret.0), message, signature).is_ok()
}

fn is_name(name: &str) -> bool {
    (1..=NAME_BYTES_MAX).contains(&name.len()) && !name.trim().is_empty() && !name.chars().any(char::is_control)
}

fn of_hmac(keys: &[(String, SecretBytes)], user: &str, hash: &str, now_ms: u64) -> Result<Proven, IdentityError> {
    let digit = |at: usize| hash.get(at..at + 2).and_then(|pair| u8::from_str_radix(pair, 16).ok());
    let is_hash = hash.len() == HASH_CHARS && hash.bytes().all(|byte| byte.is_ascii_hexdigit());
    let signature: Option<Vec<u8>> = (0..HASH_CHARS).step_by(2).map(digit).collect();
    let signature = signature.filter(|_| is_hash && is_name(user)).ok_or(IdentityError::Unsigned)?;
    if !keys.iter().any(|(_, secret)| is_signed(secret, user.as_bytes(), &signature)) {
        return Err(IdentityError::Unsigned);
    }
    let mut drawn = [0; 16];
    getrandom::fill(&mut drawn).map_err(|_| IdentityError::Unsigned)?;
    let proof = hash_token(&format!("hmac {drawn:?}"));
    Ok(Proven { user: user.to_owned(), name: None, email: None, proof, until_ms: now_ms })
}

fn of_token(keys: &[(String, SecretBytes)], site: &str, token: &str, now_ms: u64) -> Result<Proven, IdentityError> {
    let unsigned = || IdentityError::Unsigned;
    if token.len() > TOKEN_BYTES_MAX {
        return Err(unsigned());
    }
    let (message, signature) = token.rsplit_once('.').ok_or_else(unsigned)?;
    let (header, claims) = message.split_once('.').filter(|(_, claims)| !claims.contains('.')).ok_or_else(unsigned)?;
    let decoded = |part: &str| Base64UrlUnpadded::decode_vec(part).map_err(|_| unsigned());
    let signature = decoded(signature)?;
    let header: Header = serde_json::from_slice(&decoded(header)?).map_err(|_| unsigned())?;
    if header.alg != "HS256" || header.crit.is_some() {
        return Err(unsigned());
    }
    let mut of_key = keys.iter().filter(|(name, _)| header.kid.as_ref().is_none_or(|kid| kid == name));
    // Nothing of the claims is read before somebody stands in for them.
    if !of_key.any(|(_, secret)| is_signed(secret, message.as_bytes(), &signature)) {
        return Err(unsigned());
    }
    let claims: Claims = serde_json::from_slice(&decoded(claims)?).map_err(|_| IdentityError::Claims)?;
    let now_s = now_ms / 1_000;
    let is_for_us = match &claims.aud {
        Audience::One(name) => name == site,
        Audience::Many(names) => names.iter().any(|name| name == site),
    };
    let is_text = |text: &Option<String>| text.as_deref().is_none_or(is_name);
    let is_sound = is_for_us
        && is_name(&claims.sub)
        && is_name(&claims.jti)
        && is_text(&claims.name)
        && is_text(&claims.email)
        && claims.exp <= now_s.saturating_add(LIFE_S_MAX + LEEWAY_S);
    match () {
        () if !is_sound => Err(IdentityError::Claims),
        () if claims.exp.saturating_add(LEEWAY_S) <= now_s => Err(IdentityError::Expired),
        () if claims.nbf.is_some_and(|nbf| nbf > now_s.saturating_add(LEEWAY_S)) => Err(IdentityError::Expired),
        () => Ok(Proven {
            proof: hash_token(&format!("jti {}", claims.jti)),
            until_ms: claims.exp.saturating_add(LEEWAY_S).saturating_mul(1_000),
            user: claims.sub,
            name: claims.name,
            email: claims.email,
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    const NOW_MS: u64 = 1_795_420_800_000;

    fn keys() -> Vec<(String, SecretBytes)> {
        vec![("old".into(), SecretBytes(vec![1; 32])), ("new".into(), SecretBytes(vec![2; 32]))]
    }

    fn sign(key: &[u8], message: &str) -> Vec<u8> {
        hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), message.as_bytes()).as_ref().to_vec()
    }

    fn token(key: &[u8], header: &Value, claims: &Value) -> String {
        let part = |value: &Value| Base64UrlUnpadded::encode_string(value.to_string().as_bytes());
        let message = format!("{}.{}", part(header), part(claims));
        format!("{message}.{}", Base64UrlUnpadded::encode_string(&sign(key, &message)))
    }

    fn claims(change: impl FnOnce(&mut Value)) -> Value {
        let mut claims = json!({"sub": "u17", "aud": "shop", "exp": NOW_MS / 1_000 + 600, "jti": "j1", "name": "Zoë"});
        change(&mut claims);
        claims
    }

    fn check(token: String) -> Result<Proven, IdentityError> {
        verify(&keys(), "shop", &Given::Token(token), NOW_MS)
    }

    #[test]
    fn a_token_of_either_key_says_who_the_visitor_is() {
        for key in [1, 2] {
            let proven = check(token(&[key; 32], &json!({"alg": "HS256", "typ": "JWT"}), &claims(|_| {}))).unwrap();
            assert_eq!((proven.user.as_str(), proven.name.as_deref(), proven.email), ("u17", Some("Zoë"), None));
        }
        let named = json!({"alg": "HS256", "kid": "new"});
        assert!(check(token(&[2; 32], &named, &claims(|_| {}))).is_ok());
        assert_eq!(check(token(&[1; 32], &named, &claims(|_| {}))), Err(IdentityError::Unsigned), "of another key");
        let many = claims(|claims| claims["aud"] = json!(["other", "shop"]));
        let first = check(token(&[1; 32], &json!({"alg": "HS256"}), &many)).unwrap();
        let again = check(token(&[2; 32], &json!({"alg": "HS256"}), &many)).unwrap();
        assert_eq!(first.proof, again.proof, "the jti is the proof");
    }

    #[test]
    fn tokens_that_say_what_they_like_are_none() {
        let good = json!({"alg": "HS256"});
        for header in [
            json!({"alg": "none"}),
            json!({"alg": "hs256"}),
            json!({"alg": "HS512"}),
            json!({"alg": "RS256"}),
            json!({"typ": "JWT"}),
            json!({"alg": "HS256", "crit": ["exp"]}),
            json!({"alg": "HS256", "kid": "../old"}),
        ] {
            assert_eq!(check(token(&[1; 32], &header, &claims(|_| {}))), Err(IdentityError::Unsigned), "{header}");
        }
        let whole = token(&[1; 32], &good, &claims(|_| {}));
        let (message, _) = whole.rsplit_once('.').unwrap();
        for wrong in [
            message.to_owned(),
            format!("{message}."),
            format!("{whole}."),
            format!("{whole}.{whole}"),
            token(&[3; 32], &good, &claims(|_| {})),
            String::new(),
            "..".into(),
            "x".repeat(TOKEN_BYTES_MAX + 1),
        ] {
            assert_eq!(check(wrong.clone()), Err(IdentityError::Unsigned), "{wrong}");
        }
        let faults: [fn(&mut Value); 9] = [
            |claims| claims["aud"] = json!("shop2"),
            |claims| claims["aud"] = json!([]),
            |claims| drop(claims.as_object_mut().unwrap().remove("jti")),
            |claims| drop(claims.as_object_mut().unwrap().remove("exp")),
            |claims| claims["sub"] = json!(""),
            |claims| claims["sub"] = json!("a\nb"),
            |claims| claims["exp"] = json!(NOW_MS / 1_000 + LIFE_S_MAX + LEEWAY_S + 1),
            |claims| claims["exp"] = json!("soon"),
            |claims| claims["name"] = json!("x".repeat(NAME_BYTES_MAX + 1)),
        ];
        for change in faults {
            let claims = claims(change);
            assert_eq!(check(token(&[1; 32], &good, &claims)), Err(IdentityError::Claims), "{claims}");
        }
        let over = claims(|claims| claims["exp"] = json!(NOW_MS / 1_000 - LEEWAY_S));
        assert_eq!(check(token(&[1; 32], &good, &over)), Err(IdentityError::Expired));
        let early = claims(|claims| claims["nbf"] = json!(NOW_MS / 1_000 + LEEWAY_S + 1));
        assert_eq!(check(token(&[1; 32], &good, &early)), Err(IdentityError::Expired));
        let none = verify(&[], "shop", &Given::Token(whole), NOW_MS);
        assert_eq!(none, Err(IdentityError::NoKey));
    }

    #[test]
    fn the_hmac_of_a_name_proves_it_and_nothing_else_does() {
        let hash: String = sign(&[2; 32], "u17").iter().map(|byte| format!("{byte:02x}")).collect();
        let given = |user: &str, hash: &str| Given::Hmac { user: user.to_owned(), hash: hash.to_owned() };
        let check = |given: Given| verify(&keys(), "shop", &given, NOW_MS);
        let first = check(given("u17", &hash)).unwrap();
        assert_eq!(first.user, "u17");
        assert_ne!(first.proof, check(given("u17", &hash.to_uppercase())).unwrap().proof);
        for wrong in [given("u18", &hash), given("u17", &hash[2..]), given("u17", &"0".repeat(64)), given("", &hash)] {
            assert_eq!(check(wrong.clone()), Err(IdentityError::Unsigned), "{wrong:?}");
        }
        let odd = given("u17", &format!("{}é", &hash[..62]));
        assert_eq!(check(odd), Err(IdentityError::Unsigned));
    }
}
