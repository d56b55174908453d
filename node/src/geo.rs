//! Owns where addresses are: country and city, out of a file in the MaxMind DB format. Does not fetch one. Invariant: the file is read
//! whole into memory, never mapped: one that is cut while it is replaced must not end the process; what is served is a whole file.

use maxminddb::Reader;
use parking_lot::{Mutex, RwLock};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Weak};
use std::time::{Duration, SystemTime};

/// How often it is looked whether the file has changed.
const LOOK_EVERY: Duration = Duration::from_secs(5);
/// Largest file, in bytes: the largest that are sold have a few hundred MiB.
const FILE_BYTES_MAX: u64 = 1 << 30;
/// Longest name of a city that is passed on, in bytes.
const CITY_BYTES_MAX: usize = 128;

/// Where a client is, as far as the file knows.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Place {
    /// As ISO 3166-1 has it, e.g. `NZ`.
    pub country: Option<Box<str>>,
    pub city: Option<Box<str>>,
}

/// By these two a changed file is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Mark {
    modified: SystemTime,
    bytes: u64,
}

/// The file, or none: then nobody's place is known.
pub struct Geo {
    path: Option<PathBuf>,
    reader: RwLock<Option<Arc<Reader<Vec<u8>>>>>,
    mark: Mutex<Option<Mark>>,
}

/// Why there is no such file to look in.
#[derive(Debug, thiserror::Error)]
pub enum GeoError {
    #[error("cannot be read: {0}")]
    Unreadable(#[from] std::io::Error),
    #[error("is no file in the MaxMind DB format: {0}")]
    Broken(#[from] maxminddb::MaxMindDbError),
    #[error("has more than {FILE_BYTES_MAX} bytes")]
    TooLarge,
}

/// What is read of an entry: as MaxMind writes it, or flat as others do.
#[derive(Deserialize)]
struct Entry {
    country: Option<Country>,
    country_code: Option<String>,
    city: Option<City>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Country {
    Code(String),
    Of { iso_code: Option<String> },
}

#[derive(Deserialize)]
#[serde(untagged)]
enum City {
    Name(String),
    Of { names: BTreeMap<String, String> },
}

impl Geo {
    /// # Errors
    /// The file is not there, or is none.
    pub fn open(path: Option<&Path>) -> Result<Geo, GeoError> {
        let Some(path) = path else { return Ok(Geo::none()) };
        let (mark, reader) = (mark_of(path)?, read(path)?);
        Ok(Geo {
            path: Some(path.to_owned()),
            reader: RwLock::new(Some(Arc::new(reader))),
            mark: Mutex::new(Some(mark)),
        })
    }

    pub fn none() -> Geo {
        Geo { path: None, reader: RwLock::new(None), mark: Mutex::new(None) }
    }

    /// Where an address is. Those of no public network are nowhere, whatever the file says.
    pub fn place(&self, address: Option<IpAddr>) -> Place {
        let reader = self.reader.read().clone();
        let address = address.map(|address| address.to_canonical()).filter(|address| is_public(*address));
        let (Some(reader), Some(address)) = (reader, address) else {
            return Place::default();
        };
        let entry = reader.lookup(address).and_then(|found| found.decode::<Entry>());
        let Ok(Some(entry)) = entry else { return Place::default() };
        let country = match entry.country {
            Some(Country::Code(code)) => Some(code),
            Some(Country::Of { iso_code }) => iso_code,
            None => None,
        };
        let city = match entry.city {
            Some(City::Name(name)) => Some(name),
            Some(City::Of { mut names }) => names.remove("en").or_else(|| names.into_values().next()),
            None => None,
        };
        let is_code = |code: &String| code.len() == 2 && code.bytes().all(|byte| byte.is_ascii_alphabetic());
        let is_name = |name: &String| (1..=CITY_BYTES_MAX).contains(&name.len()) && !name.chars().any(char::is_control);
        Place {
            country: country
                .or(entry.country_code)
                .filter(is_code)
                .map(|code| code.to_ascii_uppercase().into_boxed_str()),
            city: city.filter(is_name).map(String::into_boxed_str),
        }
    }

    /// Takes the file anew if it has changed; one that cannot be read leaves the last one in use.
    fn look(&self) {
        let Some(path) = &self.path else { return };
        // While it is being replaced there may be none.
        let Ok(mark) = mark_of(path) else { return };
        if self.mark.lock().replace(mark) == Some(mark) {
            return;
        }
        match read(path) {
            Ok(reader) => {
                tracing::info!(built = reader.metadata().build_epoch, "took the changed file of places");
                *self.reader.write() = Some(Arc::new(reader));
            }
            Err(error) => tracing::warn!(%error, "the changed file of places is not taken"),
        }
    }
}

fn mark_of(path: &Path) -> std::io::Result<Mark> {
    let about = std::fs::metadata(path)?;
    Ok(Mark { modified: about.modified()?, bytes: about.len() })
}

fn read(path: &Path) -> Result<Reader<Vec<u8>>, GeoError> {
    if std::fs::metadata(path)?.len() > FILE_BYTES_MAX {
        return Err(GeoError::TooLarge);
    }
    Ok(Reader::from_source(std::fs::read(path)?)?)
}

/// Follows the file until the node is gone.
pub async fn watch(geo: Weak<Geo>) {
    loop {
        tokio::time::sleep(LOOK_EVERY).await;
        let Some(geo) = geo.upgrade() else { return };
        if geo.path.is_none() {
            return;
        }
        // A large file takes a moment to read.
        if tokio::task::spawn_blocking(move || geo.look()).await.is_err() {
            tracing::error!("a look at the file of places panicked");
        }
    }
}

/// Whether an address is of the internet: those of houses, links and machines are in no country.
fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => {
            !(address.is_private()
                || address.is_loopback()
                || address.is_link_local()
                || address.is_unspecified()
                || address.is_broadcast()
                || address.is_multicast()
                // Shared by the customers of a provider: RFC 6598.
                || (address.octets()[0] == 100 && address.octets()[1] & 0xc0 == 64))
        }
        IpAddr::V6(address) => {
            !(address.is_loopback()
                || address.is_unspecified()
                || address.is_unique_local()
                || address.is_unicast_link_local()
                || address.is_multicast())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SAMPLE: &[u8] = include_bytes!("../testdata/places.mmdb");

    fn in_file(bytes: &[u8]) -> (tempfile::TempDir, PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("places.mmdb");
        std::fs::write(&path, bytes).unwrap();
        (dir, path)
    }

    fn place(geo: &Geo, address: &str) -> (Option<String>, Option<String>) {
        let Place { country, city } = geo.place(Some(address.parse().unwrap()));
        (country.map(Into::into), city.map(Into::into))
    }

    #[test]
    fn the_file_says_in_which_country_and_city_an_address_is() {
        let (_dir, path) = in_file(SAMPLE);
        let geo = Geo::open(Some(&path)).unwrap();
        for (address, country, city) in [
            ("192.0.2.77", Some("NZ"), Some("Wellington")),
            ("::ffff:192.0.2.77", Some("NZ"), Some("Wellington")),
            ("198.51.100.7", Some("CN"), Some("北京")),
            ("198.51.100.200", None, None),
            ("203.0.113.1", Some("PT"), Some("Porto")),
            ("2001:db8::1", Some("IS"), None),
            ("2001:db9::1", None, None),
        ] {
            assert_eq!(place(&geo, address), (country.map(str::to_owned), city.map(str::to_owned)), "{address}");
        }
        assert_eq!(geo.place(None), Place::default());
    }

    #[test]
    fn addresses_of_houses_and_machines_are_in_no_country() {
        for (address, public) in [
            ("10.1.2.3", false),
            ("192.168.0.1", false),
            ("127.0.0.1", false),
            ("169.254.1.1", false),
            ("100.64.0.1", false),
            ("100.128.0.1", true),
            ("::1", false),
            ("fd00::1", false),
            ("fe80::1", false),
            ("::ffff:10.0.0.1", false),
            ("8.8.8.8", true),
            ("2606:4700::1", true),
        ] {
            let parsed: IpAddr = address.parse().unwrap();
            assert_eq!(is_public(parsed.to_canonical()), public, "{address}");
        }
    }

    #[test]
    fn a_file_that_is_missing_or_broken_is_told_and_without_one_nobody_is_anywhere() {
        let (_dir, path) = in_file(&SAMPLE[..SAMPLE.len() / 2]);
        assert!(matches!(Geo::open(Some(&path)), Err(GeoError::Broken(_))));
        assert!(matches!(Geo::open(Some(&path.with_extension("gone"))), Err(GeoError::Unreadable(_))));
        let none = Geo::open(None).unwrap();
        none.look();
        assert_eq!(place(&none, "192.0.2.77"), (None, None));
    }

    #[test]
    fn a_changed_file_is_taken_and_a_broken_one_is_not() {
        let (_dir, path) = in_file(SAMPLE);
        let geo = Geo::open(Some(&path)).unwrap();
        let at = SAMPLE.windows(2).position(|pair| pair == b"NZ").unwrap();
        let mut moved = SAMPLE.to_vec();
        moved[at..at + 2].copy_from_slice(b"AU");
        let write = |bytes: &[u8], seconds: u64| {
            std::fs::write(&path, bytes).unwrap();
            let file = std::fs::File::options().write(true).open(&path).unwrap();
            file.set_modified(SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)).unwrap();
            geo.look();
            place(&geo, "192.0.2.1").0.unwrap()
        };
        assert_eq!(write(&moved, 1), "AU");
        assert_eq!(write(&SAMPLE[..100], 2), "AU");
        std::fs::remove_file(&path).unwrap();
        geo.look();
        assert_eq!(place(&geo, "192.0.2.1").0.unwrap(), "AU");
        assert_eq!(write(SAMPLE, 3), "NZ");
    }
}
