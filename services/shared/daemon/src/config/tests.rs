use super::*;
use serde::Deserialize;

#[derive(Debug, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Config {
    name: String,
    inner: Inner,
}

#[derive(Debug, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Inner {
    one: u8,
    two: u8,
    choice: Option<Choice>,
}

/// The keys of two files can be right each, and wrong together.
#[derive(Debug, PartialEq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Choice {
    Left(u8),
    Right(u8),
}

impl Settings for Config {
    fn check(&self) -> Result<(), Unfit> {
        if self.inner.two < self.inner.one {
            return Err(Unfit::new(
                &["inner.two", "inner.one"],
                "must not be less than inner.one",
            ));
        }
        Ok(())
    }
}

#[test]
fn drop_ins_go_over_the_file_key_by_key() {
    let directory = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| fs::write(directory.path().join(name), text).unwrap();
    assert_eq!(load::<Config>(directory.path(), "x").unwrap(), Config::default());
    fs::create_dir(directory.path().join("x.d")).unwrap();
    write("x.toml", "name = 'a'\n[inner]\none = 1\ntwo = 1\n");
    write("x.d/20.toml", "inner.two = 3\n");
    write("x.d/10.toml", "inner.two = 2\n");
    write("x.d/notes.txt", "not ours");
    let config = load::<Config>(directory.path(), "x").unwrap();
    assert_eq!(
        config,
        Config {
            name: "a".into(),
            inner: Inner {
                one: 1,
                two: 3,
                choice: None
            }
        }
    );
}

#[test]
fn an_unknown_key_is_named_with_file_and_line() {
    let directory = tempfile::tempdir().unwrap();
    fs::write(
        directory.path().join("x.toml"),
        "name = 'a'\n\n[inner]\nthree = 3\n",
    )
    .unwrap();
    let error = load::<Config>(directory.path(), "x").unwrap_err().to_string();
    assert!(error.contains("x.toml:4:") && error.contains("three"), "{error}");
}

fn error_of(files: &[(&str, &str)]) -> String {
    let directory = tempfile::tempdir().unwrap();
    fs::create_dir(directory.path().join("x.d")).unwrap();
    for (name, text) in files {
        fs::write(directory.path().join(name), text).unwrap();
    }
    load::<Config>(directory.path(), "x").unwrap_err().to_string()
}

#[test]
fn values_that_do_not_fit_are_named_with_the_file_and_line_that_said_them_last() {
    let error = error_of(&[
        ("x.toml", "name = 'a'\ninner.one = 2\n"),
        ("x.d/10.toml", "[inner]\n# more\ntwo = 1\n"),
    ]);
    assert!(error.contains("x.d/10.toml:3: inner.two: must"), "{error}");
    let error = error_of(&[("x.toml", "name = 'a'\n\ninner.one = 2\n")]);
    assert!(error.contains("x.toml:3: inner.two: must"), "{error}");
}

#[test]
fn drop_ins_are_judged_together_not_one_by_one() {
    let directory = tempfile::tempdir().unwrap();
    fs::create_dir(directory.path().join("x.d")).unwrap();
    fs::write(directory.path().join("x.toml"), "inner.one = 2\n").unwrap();
    fs::write(directory.path().join("x.d/10.toml"), "inner.two = 2\n").unwrap();
    assert_eq!(load::<Config>(directory.path(), "x").unwrap().inner.one, 2);
}

#[test]
fn a_drop_in_that_is_wrong_beside_the_others_is_named_itself() {
    let error = error_of(&[
        ("x.toml", "inner.choice.left = 1\n"),
        ("x.d/10.toml", "name = 'b'\n"),
        ("x.d/20.toml", "\ninner.choice.right = 1\n"),
    ]);
    assert!(error.contains("x.d/20.toml:2: does not fit"), "{error}");
}
