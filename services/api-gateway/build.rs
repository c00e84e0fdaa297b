//! Embeds the web page that `make web` left in `target/web`. Building needs no node: without the page, what is shown in its place
//! says how to make it (`page.rs`).
use std::{
    env, fs, io,
    path::{Path, PathBuf},
};

/// How a file is compressed, and which ending that has.
const FORMS: [(&str, &str); 2] = [("brotli", "br"), ("gzip", "gz")];

fn main() -> io::Result<()> {
    println!("cargo::rerun-if-env-changed=PORTMASTER_WEB");
    let folder = env::var_os("PORTMASTER_WEB").map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/web"),
        PathBuf::from,
    );
    // cargo watches what is there, and builds anew each time where it is not
    fs::create_dir_all(&folder)?;
    let folder = folder.canonicalize()?;
    println!("cargo::rerun-if-changed={}", folder.display());
    let mut files = Vec::new();
    list(&folder, &mut files)?;
    files.sort();
    let entries: String = files.iter().filter_map(|path| entry(&folder, path)).collect();
    let out = PathBuf::from(env::var_os("OUT_DIR").ok_or(io::ErrorKind::NotFound)?);
    fs::write(out.join("assets.rs"), format!("&[\n{entries}]\n"))
}

fn list(folder: &Path, files: &mut Vec<PathBuf>) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            list(&path, files)?;
        } else {
            files.push(path);
        }
    }
    Ok(())
}

/// One file as Rust has it; none for what is no part of the page: compressed forms, which go with their file, and stamps.
fn entry(folder: &Path, path: &Path) -> Option<String> {
    let name = path.strip_prefix(folder).ok()?.to_str()?;
    let ending = path.extension()?.to_str()?;
    if FORMS.iter().any(|(_, form)| *form == ending) || name.starts_with('.') {
        return None;
    }
    let forms: String = FORMS
        .iter()
        .map(|(field, form)| {
            let file = format!("{}.{form}", path.display());
            let octets = if Path::new(&file).is_file() {
                format!("Some(include_bytes!({file:?}))")
            } else {
                "None".to_owned()
            };
            format!("{field}: {octets}, ")
        })
        .collect();
    let octets = path.display().to_string();
    Some(format!(
        "    Asset {{ path: {:?}, octets: include_bytes!({octets:?}), {forms}}},\n",
        format!("/{name}")
    ))
}
