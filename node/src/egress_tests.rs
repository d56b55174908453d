//! Tests of the egress guard against what is written to get around it.

use super::*;

fn check(url: &str) -> Result<(), String> {
    let url: Url = url.parse().map_err(|_| "no URL".to_owned())?;
    Allowed::default().check(&url).map_err(str::to_owned)
}

#[test]
fn disguises_of_addresses_within_are_refused() {
    for url in [
        "http://127.0.0.1/",
        "http://127.1/",
        "http://0x7f.1/",
        "http://0177.0.0.1/",
        "http://2130706433/",
        "http://0x7f000001/",
        "http://0/",
        "http://127.0.0.1./",
        "http://\u{ff11}\u{ff12}\u{ff17}.0.0.1/",
        "http://%31%32%37.0.0.1/",
        "http://169.254.169.254/latest/meta-data/",
        "http://0xa9fea9fe/",
        "http://2852039166/",
        "http://168.63.129.16/",
        "http://100.100.100.200/",
        "http://10.0.0.1/",
        "http://172.31.255.255/",
        "http://192.168.0.1/",
        "http://224.0.0.1/",
        "http://255.255.255.255/",
        "http://[::1]/",
        "http://[::]/",
        "http://[::ffff:127.0.0.1]/",
        "http://[::ffff:a9fe:a9fe]/",
        "http://[::127.0.0.1]/",
        "http://[64:ff9b::7f00:1]/",
        "http://[64:ff9b:1::a9fe:a9fe]/",
        "http://[2002:7f00:1::]/",
        "http://[2002:a9fe:a9fe::]/",
        "http://[2001:0:4136:e378:8000:63bf:3fff:fdd2]/",
        "http://[fe80::1]/",
        "http://[fc00::1]/",
        "http://[fd00:ec2::254]/",
        "http://[ff02::1]/",
        "http://[2001:db8::1]/",
    ] {
        assert!(check(url).is_err(), "{url}");
    }
}

#[test]
fn other_ways_to_mean_another_place_are_refused_too() {
    for url in [
        "file:///etc/passwd",
        "gopher://example.com/",
        "ftp://example.com/",
        "http://example.com@127.0.0.1/",
        "http://user:secret@example.com/",
        "http://",
        "//example.com/",
        "javascript:alert(1)",
    ] {
        assert!(check(url).is_err(), "{url}");
    }
}

#[test]
fn the_internet_is_allowed_and_so_is_what_the_operator_names() {
    for url in ["https://example.com/hook", "http://8.8.8.8/", "http://[2606:4700::1]:8443/", "http://1.1.1.1:80/x?y"] {
        assert_eq!(check(url), Ok(()), "{url}");
    }
    let intranet = Allowed::new(vec!["10.20.0.0/16".parse().unwrap(), "fd12::/16".parse().unwrap()]);
    let may = |url: &str| intranet.check(&url.parse().unwrap()).is_ok();
    assert!(may("http://10.20.3.4/") && may("http://[::ffff:10.20.3.4]/") && may("http://[fd12::1]/"));
    assert!(!may("http://10.21.3.4/") && !may("http://127.0.0.1/") && !may("http://[fd13::1]/"));
}

#[tokio::test]
async fn a_name_that_leads_within_is_not_dialled() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let egress = Egress::new(Allowed::new(Vec::new())).unwrap();
    for host in ["localhost", "LOCALHOST", "localhost."] {
        let url: Url = format!("http://{host}:{port}/").parse().unwrap();
        let failed = egress.post(url, HeaderMap::new(), "{}".into()).await.unwrap_err();
        // With the dot it is a matter of DNS, which a machine need not have.
        assert!(failed.why == NOT_ALLOWED || host.ends_with('.'), "{host}: {}", failed.why);
    }
    let nobody = tokio::time::timeout(Duration::from_millis(50), listener.accept()).await;
    assert!(nobody.is_err(), "somebody dialled");
}

#[test]
fn a_receiver_that_is_busy_says_for_how_long() {
    let headers = |value: &str| HeaderMap::from_iter([(RETRY_AFTER, value.parse().unwrap())]);
    let wait = |status: u16, value: &str| wait_of(StatusCode::from_u16(status).unwrap(), &headers(value)).as_secs();
    assert_eq!((wait(429, "7"), wait(503, " 8 "), wait(503, "999999")), (7, 8, 3_600));
    assert_eq!((wait(500, "7"), wait(429, "soon"), wait(429, "-1")), (0, 0, 0));
}
