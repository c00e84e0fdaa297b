use super::*;

struct Desk {
    folder: tempfile::TempDir,
    book: Book,
}

impl Desk {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let book = Book::new(folder.path().join("profiles.d"), None).unwrap();
        Self { folder, book }
    }

    fn write(&self, name: &str, text: &str) {
        let path = self.book.folder().join(name);
        fs::create_dir_all(self.book.folder()).unwrap();
        fs::write(path, text).unwrap();
    }

    fn scan(&mut self) -> Folder {
        self.book.scan(&Changed::All, SystemTime::now(), &|name| {
            (name == "root").then_some(0)
        })
    }

    fn ids(&self) -> Vec<String> {
        self.book
            .snapshot(1)
            .profiles
            .iter()
            .map(|profile| profile.id.to_string())
            .collect()
    }
}

const GOOD: &str = "[[match]]\nuid = 0\n";

#[test]
fn without_a_folder_the_shipped_defaults_hold() {
    let mut desk = Desk::new();
    assert_eq!(desk.scan(), Folder::Absent);
    let mut shipped = verdict::policy::shipped().unwrap();
    shipped.version = 9;
    assert_eq!(desk.book.snapshot(9), shipped);
}

#[test]
fn files_come_change_and_go() {
    let mut desk = Desk::new();
    desk.write("b.toml", GOOD);
    desk.write("a.toml", GOOD);
    desk.write(".hidden.toml", "not ours");
    desk.write("a.toml~", "not ours");
    assert_eq!(desk.scan(), Folder::Read);
    assert_eq!(desk.ids(), ["a", "b"]);
    fs::remove_file(desk.book.folder().join("a.toml")).unwrap();
    assert_eq!(desk.scan(), Folder::Read);
    assert_eq!(desk.ids(), ["b"]);
    desk.write("global.toml", "[settings]\nblock_lan = true\n");
    desk.scan();
    assert_eq!(desk.book.snapshot(1).global.settings.block_lan, Some(true));
    fs::remove_file(desk.book.folder().join("global.toml")).unwrap();
    desk.scan();
    assert_eq!(desk.book.snapshot(1).global.settings.block_lan, None);
}

#[test]
fn a_broken_file_keeps_its_last_good_content_and_costs_the_others_nothing() {
    let mut desk = Desk::new();
    desk.write("a.toml", &format!("name = \"first\"\n{GOOD}"));
    desk.write("b.toml", GOOD);
    desk.scan();
    desk.write("a.toml", "name = \n");
    desk.write("b.toml", &format!("name = \"changed\"\n{GOOD}"));
    desk.write("c.toml", "nonsense");
    desk.scan();
    let snapshot = desk.book.snapshot(1);
    let names: Vec<_> = snapshot
        .profiles
        .iter()
        .map(|profile| profile.name.as_str())
        .collect();
    assert_eq!(names, ["first", "changed"]);
    let refused = desk.book.refused();
    assert_eq!(refused.len(), 2);
    assert!(refused[0].1.error.contains("a.toml:1: not TOML"), "{refused:?}");
    desk.write("a.toml", GOOD);
    desk.scan();
    assert_eq!(desk.book.refused().len(), 1);
}

#[test]
fn a_lost_folder_changes_nothing() {
    let mut desk = Desk::new();
    desk.write("a.toml", GOOD);
    desk.write("global.toml", "redirect_dns = true\n");
    desk.scan();
    let before = desk.book.snapshot(1);
    fs::rename(desk.book.folder(), desk.folder.path().join("elsewhere")).unwrap();
    assert!(matches!(desk.scan(), Folder::Lost(text) if text.contains("put the folder back")));
    assert_eq!(desk.book.snapshot(1), before);
    let mut restarted = Book::new(desk.book.folder().to_owned(), Some(&before)).unwrap();
    assert!(matches!(
        restarted.scan(&Changed::All, SystemTime::now(), &|_| None),
        Folder::Lost(_)
    ));
    assert_eq!(restarted.snapshot(1), before);
    fs::create_dir(desk.book.folder()).unwrap();
    assert_eq!(desk.scan(), Folder::Read);
    assert_eq!(desk.book.snapshot(0), verdict::policy::shipped().unwrap());
}

#[test]
fn after_a_restart_a_broken_file_still_has_its_last_good_content() {
    let mut desk = Desk::new();
    desk.write("a.toml", GOOD);
    desk.write("b.toml", GOOD);
    desk.scan();
    let kept = desk.book.snapshot(1);
    desk.write("a.toml", "nonsense");
    fs::remove_file(desk.book.folder().join("b.toml")).unwrap();
    desk.book = Book::new(desk.book.folder().to_owned(), Some(&kept)).unwrap();
    desk.scan();
    assert_eq!(desk.ids(), ["a"]);
    assert_eq!(desk.book.refused().len(), 1);
}

#[test]
fn a_name_that_no_source_can_hold_is_refused() {
    use std::os::unix::ffi::OsStrExt as _;
    let mut desk = Desk::new();
    desk.write("a b.toml", GOOD);
    fs::write(desk.book.folder().join(OsStr::from_bytes(b"\xff.toml")), GOOD).unwrap();
    desk.scan();
    assert_eq!((desk.ids().len(), desk.book.refused().len()), (0, 2));
}

#[test]
fn ten_thousand_files_are_read_and_one_change_is_found() {
    let mut desk = Desk::new();
    for number in 0..10_000 {
        desk.write(
            &format!("app{number}.toml"),
            &format!("[[match]]\npath = \"/opt/app{number}\"\n"),
        );
    }
    desk.scan();
    assert_eq!(desk.ids().len(), 10_000);
    desk.write("app77.toml", "[[match]]\npath = \"/opt/other\"\n");
    desk.book.scan(&Changed::default(), SystemTime::now(), &|_| None);
    let snapshot = desk.book.snapshot(1);
    let changed = snapshot
        .profiles
        .iter()
        .find(|profile| &*profile.id == "app77")
        .unwrap();
    assert_eq!(changed.matchers[0].path.as_deref(), Some(Path::new("/opt/other")));
}
