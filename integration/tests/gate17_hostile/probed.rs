//! The same questions to a node and to the web server that it is taken for.

use std::{fs, net::TcpStream, process::Output};

use integration::{Running, eventually};

use rustix::process::Signal;

use crate::place::{OPEN, Place, text};

const PORT: u16 = 8443;

fn nginx(place: &Place, pages: &str) -> Running {
    let folder = place.folder.path();
    let at = |name: &str| folder.join(name).display().to_string();
    let mut made = place.client.command("openssl");
    made.args([
        "req",
        "-x509",
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:P-256",
        "-nodes",
    ]);
    made.args([
        "-subj",
        "/CN=localhost",
        "-days",
        "9",
        "-keyout",
        &at("k.pem"),
        "-out",
        &at("c.pem"),
    ]);
    let made: Output = made.output().unwrap();
    assert!(made.status.success(), "{}", text(&made));
    let config = format!(
        "daemon off; worker_processes 1; user root; error_log {log}; pid {pid};\nevents {{}}\nhttp {{\n\
         server_tokens off; access_log off;\n\
         server {{ listen 127.0.0.1:{PORT} ssl http2; port_in_redirect off; ssl_protocols TLSv1.3;\n\
         ssl_certificate {certificate}; ssl_certificate_key {key}; root {pages}; }}\n}}\n",
        log = at("nginx.errors"),
        pid = at("nginx.pid"),
        certificate = at("c.pem"),
        key = at("k.pem"),
    );
    fs::write(folder.join("nginx.conf"), config).unwrap();
    let mut command = place.client.command("/usr/sbin/nginx");
    command.args(["-p", &folder.display().to_string(), "-c", &at("nginx.conf")]);
    let running = Running::start_logged("nginx", command, &folder.join("nginx.log"));
    eventually("nginx listens", || {
        place
            .client
            .enter(|| TcpStream::connect(("127.0.0.1", PORT)))
            .ok()
    });
    running
}

#[test]
fn a_prober_without_the_map_gets_the_answers_of_nginx() {
    let pages = tempfile::tempdir().unwrap();
    fs::write(pages.path().join("index.html"), "<p>A page.</p>\n").unwrap();
    fs::create_dir(pages.path().join("a")).unwrap();
    let pages = pages.path().display().to_string();
    // admits nobody, which is what a prober is
    let place = Place::new(&format!("page = '{pages}'\naccess = {{ token = [] }}\n"));
    let _nginx = nginx(&place, &pages);
    let ask = |host: &str, port: u16| {
        let mut probe = place.client.command("python3");
        probe.arg(concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/tests/gate17_hostile/probe.py"
        ));
        let said = probe.args([host, &port.to_string()]).output().unwrap();
        assert!(said.status.success(), "{}", text(&said));
        text(&said)
    };
    let (node, nginx) = (ask(&place.node.v4.to_string(), 443), ask("127.0.0.1", PORT));
    assert!(
        nginx.contains("plain HTTP request was sent to HTTPS port"),
        "{nginx}"
    );
    let differ: Vec<_> = node
        .lines()
        .zip(nginx.lines())
        .filter(|(node, nginx)| node != nginx)
        .collect();
    assert!(differ.is_empty(), "node, then nginx: {differ:#?}");
    assert_eq!(node.lines().count(), nginx.lines().count());
}

#[test]
fn visitors_of_a_node_with_a_web_server_behind_it_get_its_answers() {
    let place = Place::new(OPEN);
    let (_server, url, big) = place.files(300_000);
    let upstream = url.trim_end_matches("/big");
    let config = format!("upstream = '{upstream}'\naccess = {{ token = [] }}\n");
    fs::write(
        place.folder.path().join("etc/portmaster/gate17-node.toml"),
        config,
    )
    .unwrap();
    place.process.signal(Signal::HUP);
    let node = format!("https://{}", place.node.v4);
    eventually("the node has read it", || {
        text(&place.curl(&["-ki", &format!("{node}/none")]))
            .contains("SimpleHTTP")
            .then_some(())
    });
    for version in ["--http1.1", "--http2"] {
        let got = place.curl(&["-k", version, &format!("{node}/big")]);
        assert!(got.stdout == fs::read(&big).unwrap(), "every octet");
        let said = text(&place.curl(&["-ki", version, "-X", "POST", "-d", "x", &format!("{node}/big")]));
        assert!(said.contains("501") && said.contains("SimpleHTTP"), "{said}");
    }
}
