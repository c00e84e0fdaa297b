//! curl as it comes, as a client of one hop: what it does for `http://` and for `https://`, with nodes and servers of both
//! families.

use std::{
    fs,
    net::{IpAddr, TcpStream},
    process::{Output, Stdio},
};

use integration::{Running, eventually};

use crate::place::{OPEN, Place, text};

const PLAIN: u16 = 8000;
const SECURE: u16 = 8443;
/// SHA-256 of "open sesame".
const TOKEN: &str = "41ef4bb0b23661e66301aac36066912dac037827b4ae63a7b1165a5aa93ed4eb";
const MEMBER: [&str; 2] = ["--proxy-user", "anybody:open sesame"];

/// Says what it was asked, by whom, and how much came; keeps its connections open.
const SERVER: &str = "
import http.server, socket, ssl, sys
class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = 'HTTP/1.1'
    def do_GET(self):
        body = b''
        if self.headers.get('Transfer-Encoding') == 'chunked':
            while size := int(self.rfile.readline(), 16):
                body += self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
        else:
            body = self.rfile.read(int(self.headers.get('Content-Length', 0)))
        said = f'{self.requestline} of {self.client_address[0]}: {len(body)} octets\\n{self.headers}'.encode()
        self.send_response(200)
        self.send_header('Content-Length', str(len(said)))
        self.end_headers()
        self.wfile.write(said)
    do_POST = do_PUT = do_GET
class Server(http.server.ThreadingHTTPServer):
    address_family = socket.AF_INET6
server = Server(('::', int(sys.argv[1])), Handler)
if len(sys.argv) > 2:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(sys.argv[2], sys.argv[3])
    server.socket = context.wrap_socket(server.socket, server_side=True)
server.serve_forever()
";

struct Web {
    place: Place,
    _servers: Vec<Running>,
}

impl Web {
    fn new() -> Self {
        let place = Place::new(&OPEN.replace("'none'", &format!("{{ token = ['{TOKEN}'] }}")));
        let folder = place.folder.path();
        let (key, certificate) = (folder.join("web.key"), folder.join("web.pem"));
        integration::certificate(&key, &certificate, &format!("IP:{}", place.server.v4));
        let start = |port: u16, files: &[&std::path::Path]| {
            let mut command = place.far.command("python3");
            command.args(["-c", SERVER, &port.to_string()]).args(files);
            let running = Running::start_logged("a web server", command, &folder.join(format!("{port}.log")));
            let at = (place.server.v4, port);
            eventually("it listens", || place.far.enter(|| TcpStream::connect(at)).ok());
            running
        };
        let servers = vec![start(PLAIN, &[]), start(SECURE, &[&certificate, &key])];
        Self {
            place,
            _servers: servers,
        }
    }

    /// By way of the node; no option makes a tunnel of what curl would not.
    fn curl(&self, node: IpAddr, arguments: &[&str]) -> Output {
        let proxy = format!("https://{}", host(node));
        let before = ["--noproxy", "", "--proxy", &proxy, "--proxy-insecure", "-k"];
        self.place.curl(&[&before, arguments].concat())
    }
}

fn host(address: IpAddr) -> String {
    match address {
        IpAddr::V4(address) => address.to_string(),
        IpAddr::V6(address) => format!("[{address}]"),
    }
}

#[test]
fn curl_gets_pages_by_both_schemes_from_servers_and_by_nodes_of_both_families() {
    let web = Web::new();
    let place = &web.place;
    for node in [IpAddr::from(place.node.v4), place.node.v6.into()] {
        for (server, by) in [
            (IpAddr::from(place.server.v4), IpAddr::from(place.out.v4)),
            (place.server.v6.into(), place.out.v6.into()),
        ] {
            for (scheme, port) in [("http", PLAIN), ("https", SECURE)] {
                let url = format!("{scheme}://{}:{port}/a?b=c", host(server));
                let got = web.curl(node, &[&MEMBER[..], &[&url]].concat());
                let said = text(&got).to_lowercase();
                assert!(got.status.success(), "{url} by {node}: {said}");
                assert!(
                    said.contains("get /a?b=c http/1.1 of ") && said.contains(&by.to_string()),
                    "{said}"
                );
                assert!(
                    !said.contains("proxy"),
                    "what is shown to the node is for it alone: {said}"
                );
            }
        }
    }
    // one after another: to each what is meant for it
    let node = place.node.v4.into();
    let urls = [place.server.v4.into(), IpAddr::from(place.server.v6)]
        .map(|server| format!("http://{}:{PLAIN}/{server}", host(server)));
    let said = text(&web.curl(node, &[&MEMBER[..], &[&urls[0], &urls[1], &urls[0]]].concat()));
    assert_eq!(
        said.matches(&format!("GET /{} ", place.server.v4)).count(),
        2,
        "{said}"
    );
    assert_eq!(
        said.matches(&format!("GET /{} ", place.server.v6)).count(),
        1,
        "{said}"
    );
}

#[test]
fn curl_sends_files_whose_length_is_known_and_not_known() {
    let web = Web::new();
    let (place, node) = (&web.place, web.place.node.v4.into());
    let file = place.folder.path().join("file");
    fs::write(&file, vec![b'x'; 5_000_000]).unwrap();
    let url = format!("http://{}:{PLAIN}/put", place.server.v4);
    let known = ["-T", file.to_str().unwrap(), &url];
    let said = text(&web.curl(node, &[&MEMBER[..], &known].concat()));
    assert!(said.contains(": 5000000 octets"), "{said}");
    let asks_first = [
        "-H",
        "Expect: 100-continue",
        "--data-binary",
        &format!("@{}", file.display()),
        &url,
    ];
    let said = text(&web.curl(node, &[&MEMBER[..], &asks_first].concat()));
    assert!(
        said.contains("POST /put") && said.contains(": 5000000 octets"),
        "{said}"
    );
    let proxy = format!("https://{}", place.node.v4);
    let mut command = place.client.command("curl");
    command.args([
        "-sS",
        "--max-time",
        "60",
        "--proxy",
        &proxy,
        "--proxy-insecure",
        "-T",
        "-",
    ]);
    let running = command
        .args(MEMBER)
        .arg(&url)
        .stdin(Stdio::from(fs::File::open(&file).unwrap()))
        .output();
    let said = text(&running.unwrap());
    assert!(said.contains(": 5000000 octets"), "in pieces: {said}");
}

#[test]
fn curl_hears_what_is_refused_and_a_stranger_hears_of_no_proxy() {
    let web = Web::new();
    let (place, node) = (&web.place, web.place.node.v4.into());
    for (url, status, error) in [
        (
            format!("http://{}:1/", place.server.v4),
            502,
            "connection_refused",
        ),
        (
            "http://127.0.0.1:8000/".to_owned(),
            403,
            "destination_ip_prohibited",
        ),
        (
            format!("http://{}/", place.node.v4),
            403,
            "destination_ip_prohibited",
        ),
        ("http://192.168.1.1/".to_owned(), 403, "destination_ip_prohibited"),
        // no web server
        (
            format!("http://{}/", place.far.echo(place.server.v4, 7000)),
            502,
            "destination_unavailable",
        ),
    ] {
        let said = text(&web.curl(node, &[&MEMBER[..], &["-i", &url]].concat()));
        let first = said.lines().next().unwrap_or_default();
        assert!(first.contains(&status.to_string()), "{url}: {said}");
        assert!(
            said.to_lowercase()
                .contains(&format!("proxy-status: gate17; error={error}")),
            "{url}: {said}"
        );
    }
    let url = format!("http://{}:{PLAIN}/", place.server.v4);
    for stranger in [
        vec![],
        vec!["--proxy-user", "anybody:wrong"],
        // meant for the server, and no leave to be carried there
        vec!["-H", "Authorization: Bearer open sesame"],
    ] {
        let said = text(&web.curl(node, &[&stranger, &["-i", &url][..]].concat()));
        assert!(said.contains("Welcome to nginx!"), "{said}");
        assert!(!said.to_lowercase().contains("proxy"), "{said}");
    }
}
