//! Lists that are downloaded from a server on loopback, good and bad.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod publisher;

use std::{
    fs,
    net::IpAddr,
    path::PathBuf,
    time::{Duration, Instant},
};

use daemon::status::Status;
use dns::lists::{Downloads, Looked, Resolve, Source};
use publisher::{NAME, Publisher};
use sha2::{Digest as _, Sha256};
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;

/// Knows one host, on loopback.
struct Known;

impl Resolve for Known {
    async fn resolve(&self, host: &str) -> anyhow::Result<Vec<IpAddr>> {
        anyhow::ensure!(host == NAME, "nobody knows {host}");
        Ok(vec![IpAddr::from([127, 0, 0, 1])])
    }
}

struct Desk {
    folder: TempDir,
    status: Status,
    downloads: Downloads,
    source: Source,
}

impl Desk {
    fn new(url: &str, more: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let source: Source = toml::from_str(&format!(
            "name = 'ads'\ncategories = ['ads']\nurl = '{url}'\n{more}"
        ))
        .unwrap();
        source.check().unwrap();
        let status = Status::new(dns::ABOUT);
        let (config, kept) = (folder.path().to_owned(), folder.path().join("kept"));
        Self {
            downloads: Downloads::new(std::slice::from_ref(&source), config, kept, status.clone()),
            folder,
            status,
            source,
        }
    }

    async fn look(&self) -> Result<Looked, String> {
        let looked = Box::pin(self.downloads.look(&self.source, &Known)).await;
        looked.map_err(|error| format!("{error:#}"))
    }

    fn file(&self) -> PathBuf {
        self.folder.path().join("kept/ads")
    }

    fn kept(&self) -> String {
        fs::read_to_string(self.file()).unwrap_or_default()
    }

    fn problems(&self) -> Vec<String> {
        let problems = self.status.snapshot().problems;
        problems.into_iter().map(|problem| problem.text).collect()
    }
}

fn names(count: usize) -> String {
    (0..count).map(|number| format!("host{number}.test\n")).collect()
}

async fn served(list: &str, more: &str) -> (Publisher, Desk) {
    let publisher = Publisher::clear().await;
    publisher.publishes("/ads.txt", "one", list);
    let desk = Desk::new(&format!("http://{}/ads.txt", publisher.address), more);
    (publisher, desk)
}

#[tokio::test]
async fn a_list_is_downloaded_once_and_again_only_when_it_changed() {
    let (publisher, desk) = served("a.test\nb.test\n", "").await;
    assert_eq!(desk.look().await, Ok(Looked::New));
    assert_eq!(desk.kept(), "a.test\nb.test\n");
    assert!(!publisher.last_request().to_lowercase().contains("if-none-match"));

    publisher.says("/ads.txt", "HTTP/1.1 304 Not Modified\r\n\r\n");
    assert_eq!(desk.look().await, Ok(Looked::Same));
    let asked = publisher.last_request().to_lowercase();
    assert!(asked.contains("if-none-match: \"one\"\r\n"), "{asked}");
    assert!(
        asked.contains("if-modified-since: sun, 01 nov 2026 00:00:00 gmt\r\n"),
        "{asked}"
    );
    assert_eq!(desk.kept(), "a.test\nb.test\n");

    publisher.publishes("/ads.txt", "two", "c.test\nd.test\n");
    assert_eq!(desk.look().await, Ok(Looked::New));
    assert_eq!(desk.kept(), "c.test\nd.test\n");

    // what is gone from disk is not asked for under a condition
    fs::remove_file(desk.file()).unwrap();
    assert_eq!(desk.look().await, Ok(Looked::New));
    assert!(!publisher.last_request().to_lowercase().contains("if-none-match"));
}

#[tokio::test]
async fn nothing_that_is_broken_takes_the_place_of_what_is_good() {
    let good = names(100);
    let (publisher, desk) = served(&good, "max_size = 1").await;
    assert_eq!(desk.look().await, Ok(Looked::New));
    let with_length =
        |length: usize, body: &str| format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n{body}");
    let page = "<html>\n<body>\nwww.test\n</body>\n</html>\n";
    let many = names(200_000);
    for (what, answer, said) in [
        ("half", with_length(good.len() * 2, &good), "broke off after"),
        (
            "half, in pieces",
            format!(
                "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{:x}\r\n{good}\r\n",
                good.len()
            ),
            "broke off after",
        ),
        ("empty", with_length(0, ""), "no line of it is a name"),
        ("tiny", with_length(14, "a.test\nb.test\n"), "2 names after 100"),
        ("a page", with_length(page.len(), page), "it is no list"),
        (
            "announced too large",
            with_length(2 << 20, "a.test"),
            "more than 1 MiB",
        ),
        (
            "endless",
            format!("HTTP/1.1 200 OK\r\n\r\n{many}"),
            "more than 1 MiB",
        ),
        (
            "an error",
            "HTTP/1.1 500 Oh\r\nContent-Length: 0\r\n\r\n".into(),
            "500",
        ),
        (
            "packed",
            "HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 1\r\n\r\nx".into(),
            "gzip",
        ),
        ("no HTTP", "SSH-2.0-x\r\n\r\n".into(), "ask the server"),
        (
            "a loop",
            "HTTP/1.1 302 Found\r\nLocation: /ads.txt\r\n\r\n".into(),
            "more than 5 times",
        ),
    ] {
        publisher.says("/ads.txt", answer);
        let error = desk.look().await.unwrap_err();
        assert!(error.contains(said), "{what}: {error}");
        assert_eq!(desk.kept(), good, "{what}");
        assert!(!desk.file().with_extension("part").exists(), "{what}");
        let problems = desk.problems();
        assert_eq!(problems.len(), 1, "{what}");
        assert!(
            problems[0].contains("\"ads\"") && problems[0].contains("stays in force"),
            "{problems:?}"
        );
    }
    publisher.publishes("/ads.txt", "new", &names(60));
    assert_eq!(desk.look().await, Ok(Looked::New));
    assert!(desk.problems().is_empty());
}

#[tokio::test]
async fn a_checksum_has_to_be_right() {
    let list = "a.test\n";
    let sum: String = Sha256::digest(list)
        .iter()
        .map(|octet| format!("{octet:02x}"))
        .collect();
    let (_publisher, desk) = served(list, &format!("sha256 = '{sum}'")).await;
    assert_eq!(desk.look().await, Ok(Looked::New));
    let (_publisher, desk) = served("b.test\n", &format!("sha256 = '{sum}'")).await;
    assert!(desk.look().await.unwrap_err().contains("has to be"));
    assert!(!desk.file().exists() && desk.problems()[0].contains("not in force"));

    let publisher = Publisher::clear().await;
    let at = publisher.address;
    publisher.publishes("/ads.txt", "one", list);
    publisher.publishes(
        "/sums",
        "one",
        &format!("{}  x.txt\n{sum}  ads.txt\n", "0".repeat(64)),
    );
    let desk = Desk::new(
        &format!("http://{at}/ads.txt"),
        &format!("sha256 = 'http://{at}/sums'"),
    );
    assert_eq!(desk.look().await, Ok(Looked::New));
}

/// Made with minisign 0.11, of [`SIGNED`]; the secret key was thrown away.
const KEY: &str = "RWQ5oLt3iNDFeqe0AFJp1lRAbRHCoKkPNnm1ms2YQVpDCsS4AjpcsIl0";
const SIGNED: &str = "a.test\n";
const SIGNATURE: &str = concat!(
    "untrusted comment: signature from minisign secret key\n",
    "RUQ5oLt3iNDFeui2GkzhQJjY1SYiF5HrmsTY/Rp8yKC60ZdU4A/RKaVkOeUbA3eE6rL5GGFcxLLr2wwK6XZ1S6l1ybNqQCd4pQA=\n",
    "trusted comment: a list\n",
    "tQ4AstWgspHWAYY8jXj6y38eK4/EHvxO65wRsiRTAnhBPbhXy3nQknKfVGcK0ilyqDlxZF5Zxa9CUui1U53FAg==\n",
);

#[tokio::test]
async fn a_list_that_is_not_signed_by_its_publisher_is_refused() {
    let (publisher, desk) = served(SIGNED, &format!("minisign_key = '{KEY}'")).await;
    assert!(desk.look().await.unwrap_err().contains("get its signature"));
    publisher.publishes("/ads.txt.minisig", "one", "no signature");
    assert!(
        desk.look()
            .await
            .unwrap_err()
            .contains("its signature does not hold")
    );
    publisher.publishes("/ads.txt.minisig", "one", SIGNATURE);
    publisher.publishes("/ads.txt", "one", "b.test\n");
    assert!(
        desk.look()
            .await
            .unwrap_err()
            .contains("its signature does not hold")
    );
    assert!(!desk.file().exists());
    publisher.publishes("/ads.txt", "one", SIGNED);
    assert_eq!(desk.look().await, Ok(Looked::New));
    assert_eq!(desk.kept(), SIGNED);
}

#[tokio::test]
async fn who_has_to_vouch_for_a_list_is_asked_even_where_it_did_not_change() {
    let (publisher, mut desk) = served("a.test\n", "").await;
    assert_eq!(desk.look().await, Ok(Looked::New));
    desk.source.minisign_key = Some(KEY.into());
    publisher.publishes("/ads.txt.minisig", "one", SIGNATURE);
    assert_eq!(desk.look().await, Ok(Looked::New));
    let asked = publisher.requests();
    assert!(
        asked[1..]
            .iter()
            .all(|head| !head.to_lowercase().contains("if-none-match")),
        "{asked:?}"
    );
    publisher.says("/ads.txt", "HTTP/1.1 304 Not Modified\r\n\r\n");
    assert_eq!(desk.look().await, Ok(Looked::Same));
    desk.source.minisign_key = None;
    assert!(desk.look().await.unwrap_err().contains("which it is not"));
}

/// Waits for the condition, with all the patience that a busy machine needs.
async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !holds() {
        assert!(Instant::now() < deadline, "waited for: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn lists_look_after_themselves_and_a_restart_asks_nobody_again() {
    let (publisher, desk) = served("a.test\n", "").await;
    let shutdown = CancellationToken::new();
    let file = desk.file();
    let run = async {
        until("the first download", || file.with_extension("json").exists()).await;
        shutdown.cancel();
    };
    tokio::join!(desk.downloads.run(&Known, &shutdown), run);
    assert_eq!(
        (desk.kept().as_str(), publisher.requests().len()),
        ("a.test\n", 1)
    );

    let again = CancellationToken::new();
    let stop = async {
        tokio::time::sleep(Duration::from_millis(300)).await;
        again.cancel();
    };
    tokio::join!(desk.downloads.run(&Known, &again), stop);
    assert_eq!(publisher.requests().len(), 1, "it is due tomorrow");
}

#[tokio::test]
async fn over_tls_the_server_proves_its_name_and_leads_nobody_out_of_it() {
    let (publisher, certificate) = Publisher::encrypted().await;
    let url = format!("https://{NAME}:{}/moved", publisher.address.port());
    publisher.publishes("/ads.txt", "one", "a.test\n");
    publisher.says("/moved", "HTTP/1.1 301 Moved\r\nLocation: /ads.txt\r\n\r\n");

    let desk = Desk::new(&url, "ca_file = 'ca.pem'");
    fs::write(desk.folder.path().join("ca.pem"), &certificate).unwrap();
    assert_eq!(desk.look().await, Ok(Looked::New));
    assert_eq!(desk.kept(), "a.test\n");

    publisher.says(
        "/moved",
        "HTTP/1.1 302 Found\r\nLocation: http://lists.example/ads.txt\r\n\r\n",
    );
    assert!(desk.look().await.unwrap_err().contains("from https to http"));

    let stranger = Publisher::encrypted().await.1;
    fs::write(desk.folder.path().join("ca.pem"), stranger).unwrap();
    let error = desk.look().await.unwrap_err();
    assert!(error.contains("connect to lists.example at 127.0.0.1"), "{error}");

    let nobody = Desk::new("https://elsewhere.example/", "");
    assert!(
        nobody
            .look()
            .await
            .unwrap_err()
            .contains("find the address of elsewhere.example")
    );
}
