use super::*;
use dns_core::Name;
use proptest::prelude::*;

/// What a service keeps, in a folder of its own.
struct Desk {
    folder: tempfile::TempDir,
    kept: Kept,
}

impl Desk {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let kept = Kept::new(folder.path());
        Self { folder, kept }
    }

    fn has(&self, name: &str) -> bool {
        self.folder.path().join(name).exists()
    }

    fn put(&self, names: Vec<ToldName>, written: Moment) {
        let content = encoded(names);
        self.kept.write(NAMES, Sealed { written, content });
    }

    /// How long each name holds that a service begins with.
    fn known(&self) -> Vec<(String, u32)> {
        self.known_at(Moment::now())
    }

    /// The same, of one that begins then. A host may have been up for less than any name holds: tests look ahead, not back.
    fn known_at(&self, now: Moment) -> Vec<(String, u32)> {
        let names = Names::new(&[], Duration::ZERO);
        self.kept.load_names_at(&names, now);
        let known = names.known().into_iter();
        let mut known: Vec<_> = known.map(|name| (name.name, name.seconds)).collect();
        known.sort();
        known
    }
}

fn told(name: &str, seconds: u32) -> ToldName {
    ToldName {
        name: name.parse::<Name>().unwrap().to_string(),
        addresses: vec![vec![198, 18, 17, 10]],
        seconds,
        ..ToldName::default()
    }
}

fn both() -> Vec<ToldName> {
    vec![told("a.test", 3600), told("b.test", 60)]
}

#[test]
fn names_hold_no_longer_for_being_kept() {
    let desk = Desk::new();
    desk.put(both(), Moment::now());
    // at most a moment less than it should be
    for _ in 0..2 {
        let known = desk.known_at(Moment::now().later(61));
        let [(name, seconds)] = &known[..] else {
            panic!("{known:?}")
        };
        assert_eq!(name, "a.test");
        assert!((3530..=3539).contains(seconds), "{seconds}");
        assert!(desk.has(NAMES), "a crash in the next minutes loses nothing");
    }
    desk.put(both(), Moment::now());
    assert_eq!(desk.known_at(Moment::now().later(3600)), []);
}

#[test]
fn names_of_another_boot_and_of_a_time_to_come_are_none() {
    let desk = Desk::new();
    desk.put(both(), Moment::now().of_another_boot());
    assert_eq!(desk.known(), []);
    assert!(!desk.has(NAMES));
    desk.put(both(), Moment::now().later(3600));
    assert_eq!(desk.known(), []);
}

#[test]
fn garbage_is_thrown_away() {
    let desk = Desk::new();
    let cache = Cache::new(&dns_core::cache::Settings::default(), [7; 16]);
    for garbage in [&b""[..], b"PMDNSC01", &[255; 300]] {
        for name in [NAMES, CACHE] {
            fs::write(desk.folder.path().join(name), garbage).unwrap();
        }
        assert_eq!(desk.known(), []);
        desk.kept.load_cache(&cache);
        assert!(!desk.has(NAMES) && !desk.has(CACHE));
        assert_eq!(cache.statistics().entries, 0);
    }
    // whole, and no names
    let written = Moment::now();
    let content = vec![255; 9];
    desk.kept.write(NAMES, Sealed { written, content });
    assert_eq!(desk.known(), []);
}

proptest! {
    #[test]
    fn what_holds_is_what_is_left(seconds: u32, passed in 0_u64..1 << 33, nanos in 0_u32..1_000_000_000) {
        let left = holding_still(vec![told("a.test", seconds)], Duration::new(passed, nanos));
        let whole = passed + u64::from(nanos > 0);
        let wanted = u64::from(seconds).saturating_sub(whole);
        prop_assert_eq!(left.first().map_or(0, |name| u64::from(name.seconds)), wanted);
    }
}
