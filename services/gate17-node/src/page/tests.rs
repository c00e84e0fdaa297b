use super::*;

fn ask(
    pages: &Pages,
    method: &Method,
    target: &str,
    headers: &[(header::HeaderName, &str)],
) -> Response<Bytes> {
    let headers: HeaderMap = headers
        .iter()
        .map(|(name, value)| (name.clone(), value.parse().unwrap()))
        .collect();
    pages.answer(&Visit {
        method,
        target,
        host: Some("x"),
        secure: true,
        headers: &headers,
    })
}

fn welcome() -> Pages {
    Pages::load(None, SystemTime::UNIX_EPOCH).unwrap()
}

#[test]
fn a_folder_is_a_web_site() {
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir(folder.path().join("a")).unwrap();
    fs::write(folder.path().join("index.html"), "home").unwrap();
    fs::write(folder.path().join("a/b.css"), "css").unwrap();
    fs::write(folder.path().join(".secret"), "no").unwrap();
    let pages = Pages::load(Some(folder.path()), SystemTime::now()).unwrap();
    let get = |path: &str| ask(&pages, &Method::GET, path, &[]);
    assert_eq!(get("/").body(), "home");
    assert_eq!(get("/index.html").body(), "home");
    assert_eq!(get("//a/./b.css?x").headers()[header::CONTENT_TYPE], "text/css");
    assert_eq!(get("/a").headers()[header::LOCATION], "https://x/a/");
    for (path, status) in [
        ("/.secret", 404),
        ("/../x", 400),
        ("/a/", 403),
        ("", 400),
        ("/b", 404),
    ] {
        assert_eq!(get(path).status(), status, "{path}");
    }
}

#[test]
fn methods_are_answered_as_by_others() {
    let pages = welcome();
    let head = ask(&pages, &Method::HEAD, "/", &[]);
    assert!(head.body().is_empty());
    assert_ne!(head.headers()[header::CONTENT_LENGTH], "0");
    for (method, path, status) in [
        (Method::POST, "/", 405),
        (Method::POST, "/none", 404),
        (Method::DELETE, "/none", 405),
        (Method::CONNECT, "/", 400),
        (Method::OPTIONS, "*", 400),
    ] {
        assert_eq!(
            ask(&pages, &method, path, &[]).status(),
            status,
            "{method} {path}"
        );
    }
}

#[test]
fn parts_and_what_is_known_are_told_apart() {
    let pages = welcome();
    let get = |headers: &[_]| ask(&pages, &Method::GET, "/", headers);
    let whole = get(&[]);
    let tag = whole.headers()[header::ETAG].to_str().unwrap();
    assert_eq!(get(&[(header::IF_NONE_MATCH, tag)]).status(), 304);
    assert_eq!(get(&[(header::IF_NONE_MATCH, "\"other\"")]).status(), 200);
    let part = get(&[(header::RANGE, "bytes=0-3")]);
    assert_eq!((part.status().as_u16(), &part.body()[..]), (206, &b"<!DO"[..]));
    assert_eq!(part.headers()[header::CONTENT_RANGE], "bytes 0-3/615");
    assert_eq!(get(&[(header::RANGE, "bytes=9999-")]).status(), 416);
}

#[test]
fn some_browsers_are_told_at_length() {
    let pages = welcome();
    let plain = ask(&pages, &Method::GET, "/none", &[]);
    let padded = ask(
        &pages,
        &Method::GET,
        "/none",
        &[(header::USER_AGENT, "Mozilla/5.0 Chrome/120.0")],
    );
    assert_eq!(padded.body().len(), plain.body().len() + 6 * 67);
}
