//! Owns the files a browser loads, compiled into the binary. Does not serve them: the gateway does.
//! Invariant: no page needs anything from another host, nor an inline script or style (CSP `default-src 'self'`).

/// One file, ready to be sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Asset {
    /// With charset.
    pub content_type: &'static str,
    /// The file.
    pub bytes: &'static [u8],
}

const HTML: &str = "text/html; charset=utf-8";
const SCRIPT: &str = "text/javascript; charset=utf-8";
const STYLE: &str = "text/css; charset=utf-8";

/// The file at an absolute path without query, e.g. `/demo`.
pub fn asset(path: &str) -> Option<Asset> {
    let (content_type, bytes): (_, &'static [u8]) = match path {
        "/demo" | "/demo/" => (HTML, include_bytes!("../demo/index.html")),
        "/demo/demo.js" => (SCRIPT, include_bytes!("../demo/demo.js")),
        "/demo/link.js" => (SCRIPT, include_bytes!("../demo/link.js")),
        "/demo/demo.css" => (STYLE, include_bytes!("../demo/demo.css")),
        _ => return None,
    };
    Some(Asset { content_type, bytes })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(path: &str) -> &'static str {
        std::str::from_utf8(asset(path).expect("the page names it").bytes).expect("UTF-8")
    }

    #[test]
    fn every_file_the_page_names_is_an_asset() {
        let page = text("/demo");
        let named: Vec<&str> = ["src=\"", "href=\""]
            .iter()
            .flat_map(|mark| page.split(mark).skip(1))
            .filter_map(|rest| rest.split('"').next())
            .filter(|path| path.starts_with("/demo/"))
            .collect();
        assert!(named.len() >= 2, "{named:?}");
        assert!(named.iter().all(|path| !text(path).is_empty()));
        assert_eq!(asset("/demo/../secret"), None);
    }

    #[test]
    fn the_page_holds_nothing_that_the_policy_forbids() {
        let page = text("/demo");
        for forbidden in ["<style", " style=", "onclick=", "onsubmit=", "https://", "http://", "<script>"] {
            assert!(!page.contains(forbidden), "{forbidden}");
        }
        for script in ["/demo/demo.js", "/demo/link.js"] {
            for forbidden in ["innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval("] {
                assert!(!text(script).contains(forbidden), "{script}: {forbidden}");
            }
        }
    }
}
