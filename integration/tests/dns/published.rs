//! Lists in the running service: from a web server that does all that web servers do, and from files that somebody breaks.

use std::{
    fs::{self, File},
    path::PathBuf,
};

use integration::{Running, Service, WrongClock, eventually, world::INTERNET_V4};
use serde_json::Value;

use super::stage::Stage;

/// Serves a folder; where a file in it says so, each path is spoilt in its own way.
const WEB_SERVER: &str = r#"
import hashlib, http.server, pathlib, socket, struct, sys
folder = pathlib.Path(sys.argv[1])

class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_GET(self):
        body = (folder / self.path[1:]).read_bytes()
        etag = '"%s"' % hashlib.sha256(body).hexdigest()[:8]
        known = self.headers.get("If-None-Match") == etag
        with open(folder / "asked", "a") as asked:
            asked.write(self.path + (" known" if known else "") + "\n")
        spoilt = (folder / "spoilt").exists() and self.path != "/sums"
        half = self.path == "/half.txt"
        if known and not spoilt:
            self.send_response(304)
            self.end_headers()
            return
        self.send_response(200)
        self.send_header("ETag", etag)
        if spoilt and self.path in ("/reset.txt", "/endless.txt"):
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            many = 1 if self.path == "/reset.txt" else 600
            for _ in range(many):
                piece = body * 64
                self.wfile.write(b"%x\r\n" % len(piece) + piece + b"\r\n")
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.close_connection = True
            return
        if spoilt and self.path == "/page.txt":
            body = b"<html>\n<body>\nPlease log in\n</body>\n</html>\n"
        if spoilt and self.path == "/sum.txt":
            body += b"innocent.example\n"
        self.send_header("Content-Length", str(len(body) * (2 if spoilt and half else 1)))
        self.end_headers()
        self.wfile.write(body)
        self.close_connection = spoilt

    def log_message(self, *words):
        pass

http.server.ThreadingHTTPServer((sys.argv[2], 80), Handler).serve_forever()
"#;

/// By how it is spoilt.
const PUBLISHED: [&str; 5] = ["half", "reset", "endless", "page", "sum"];
const LOCAL: [&str; 2] = ["gigantic", "garbage"];
const DAY: i64 = 25 * 3600;

struct Desk {
    stage: Stage,
    clock: WrongClock,
    folder: PathBuf,
    _server: Running,
}

impl Desk {
    fn new(label: &str) -> Self {
        let stage = Stage::new(label, &[], "");
        let folder = stage.world.root().join("web");
        fs::create_dir(&folder).unwrap();
        let script = folder.join("server.py");
        fs::write(&script, WEB_SERVER).unwrap();
        let mut command = stage.world.internet.command("python3");
        command.arg(&script).arg(&folder).arg(INTERNET_V4.to_string());
        let server = Running::start_logged("web server", command, &folder.join("log"));
        eventually("the web server listens", || {
            stage.world.internet.sh("ss -Hltn").contains(":80 ").then_some(())
        });
        Self {
            clock: WrongClock::new(stage.world.root()),
            stage,
            folder,
            _server: server,
        }
    }

    /// What the lists have from now on.
    fn publish(&self, word: &str) {
        for name in PUBLISHED {
            let text: String = (0..100)
                .map(|number| format!("{word}{number}.{name}.example\n"))
                .collect();
            fs::write(self.folder.join(format!("{name}.txt")), text).unwrap();
        }
        let sums = std::process::Command::new("sha256sum")
            .arg("sum.txt")
            .current_dir(&self.folder)
            .output()
            .unwrap();
        fs::write(self.folder.join("sums"), sums.stdout).unwrap();
        for name in LOCAL {
            let text = format!("0.0.0.0 {word}0.{name}.example\n");
            self.stage.world.config_file(&format!("lists/{name}"), &text);
        }
    }

    fn configure(&self) {
        let mut toml = format!("[resolve.upstreams]\nservers = [\"udp://{INTERNET_V4}\"]\n");
        for name in PUBLISHED {
            toml += &format!(
                "[[list]]\nname = \"{name}\"\nurl = \"http://fine.example/{name}.txt\"\nmax_size = 1\n"
            );
            if name == "sum" {
                toml += "sha256 = \"http://fine.example/sums\"\n";
            }
        }
        for name in LOCAL {
            toml += &format!("[[list]]\nname = \"{name}\"\nfile = \"lists/{name}\"\n");
        }
        self.stage.world.config_file("dns.toml", &toml);
    }

    /// The service anew, with a clock that is wrong by so much.
    fn restart(&mut self, by: i64) {
        self.clock.set_by(by);
        let world = &mut self.stage.world;
        world.stop(Service::Dns);
        let mut command = world.service_command(Service::Dns);
        self.clock.give_to(&mut command);
        world.start_as(Service::Dns, command);
    }

    fn refused(&self, word: &str, list: &str) -> bool {
        let said = self
            .stage
            .dig("asks")
            .ask(&["@127.0.0.1", &format!("{word}0.{list}.example")]);
        said.status() == "NXDOMAIN" && said.0.contains("EDE: 15") && said.0.contains(list)
    }

    /// As `portmaster dns lists` tells of one.
    fn told(&self, list: &str) -> Value {
        let mut command = self.stage.world.command(integration::binary("portmaster"));
        let output = command.args(["dns", "lists", "--json"]).output().unwrap();
        let lines = String::from_utf8(output.stdout).unwrap();
        let all: Vec<Value> = lines
            .lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect();
        let found = all.into_iter().find(|told| told["name"] == list);
        assert!(found.is_some(), "{list}: {lines}");
        found.unwrap()
    }

    fn problem(&self, list: &str) -> String {
        self.told(list)["problem"].as_str().unwrap_or_default().to_owned()
    }

    /// All that the web server was asked, line by line.
    fn log(&self) -> String {
        fs::read_to_string(self.folder.join("asked")).unwrap_or_default()
    }

    fn asked(&self) -> usize {
        self.log().lines().count()
    }
}

#[test]
fn whatever_is_published_or_written_what_was_good_stays_in_force() {
    let mut desk = Desk::new("dns-published");
    desk.publish("old");
    desk.configure();
    desk.restart(0);
    let all = || PUBLISHED.into_iter().chain(LOCAL);
    for list in all() {
        eventually(&format!("{list} is in force"), || {
            desk.refused("old", list).then_some(())
        });
        assert_eq!(desk.problem(list), "", "{list}");
    }

    // the owner's own files, while the service runs
    let own = desk.stage.world.config_dir().join("lists");
    File::create(own.join("gigantic"))
        .unwrap()
        .set_len(1 << 33)
        .unwrap();
    fs::write(own.join("garbage"), "<html>\n<p>no list</p>\n").unwrap();
    for (list, said) in [
        ("gigantic", "more than `max_size`"),
        ("garbage", "2 lines say nothing"),
    ] {
        eventually(&format!("{list} is refused"), || {
            desk.problem(list).contains(said).then_some(())
        });
        assert!(desk.refused("old", list), "{list}");
    }
    // among names, it is counted and named
    fs::write(own.join("garbage"), "old0.garbage.example\nno..name\n").unwrap();
    eventually("the rest of the file is in force", || {
        desk.problem("garbage").is_empty().then_some(())
    });
    assert_eq!(desk.told("garbage")["garbage"], 1, "{}", desk.told("garbage"));
    assert!(
        desk.stage.world.output(Service::Dns).contains("no..name"),
        "the line is in the log"
    );

    // setting the clock makes nobody look; over a restart a day later all are looked for
    let asked = desk.asked();
    assert_eq!(asked, PUBLISHED.len() + 1, "and a checksum");
    fs::write(desk.folder.join("spoilt"), "").unwrap();
    desk.clock.set_by(DAY);
    assert!(desk.refused("old", "half"));
    assert_eq!(desk.asked(), asked);
    desk.restart(DAY);
    for (list, said) in [
        ("half", "broke off after"),
        ("reset", "broke off after"),
        ("endless", "more than 1 MiB"),
        ("page", "no line of it is a name"),
        ("sum", "SHA-256"),
    ] {
        eventually(&format!("{list} is refused"), || {
            desk.problem(list).contains(said).then_some(())
        });
        assert!(
            desk.problem(list).contains("stays in force"),
            "{}",
            desk.problem(list)
        );
        assert!(desk.refused("old", list), "{list}");
    }
    assert!(desk.refused("old", "gigantic"), "over a restart, too");

    fs::remove_file(desk.folder.join("spoilt")).unwrap();
    desk.publish("new");
    desk.restart(DAY);
    for list in all() {
        eventually(&format!("{list} is the new one"), || {
            (desk.refused("new", list) && desk.problem(list).is_empty()).then_some(())
        });
    }

    // a day later they are the same: nothing is sent again, and they stay in force
    let before = desk.log().len();
    desk.restart(2 * DAY);
    for list in PUBLISHED {
        eventually(&format!("{list} is looked for"), || {
            let log = desk.log();
            log[before..]
                .contains(&format!("/{list}.txt known\n"))
                .then_some(())
        });
        assert!(
            desk.refused("new", list) && desk.problem(list).is_empty(),
            "{list}"
        );
    }
}
