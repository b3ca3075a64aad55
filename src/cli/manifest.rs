//! Manifests: Kubernetes objects in files, folders and standard input, each with its place for messages.
use std::{
    fmt, fs, io,
    io::Read as _,
    path::{Path, PathBuf},
};

use serde_json::Value;

use super::Failure;

/// The most bytes that one file may have: a dump of a big cluster is smaller.
const MAX_FILE_BYTES: u64 = 256 * 1024 * 1024;
const EXTENSIONS: [&str; 3] = ["yaml", "yml", "json"];

/// One object and where it was read.
#[derive(Debug, Clone)]
pub struct Manifest {
    /// Where it was read.
    pub place: Place,
    /// The object.
    pub object: Value,
}

/// A file, a document in it (from 1), and what the object calls itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// The file, or `standard input`.
    pub file: String,
    /// The document, from 1; empty ones don't count.
    pub document: usize,
    /// Which item of a List, from 1.
    pub item: Option<usize>,
    /// `Kind name`, where known.
    pub object: String,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, document {}", self.file, self.document)?;
        if let Some(item) = self.item {
            write!(f, ", item {item}")?;
        }
        match self.object.is_empty() {
            true => Ok(()),
            false => write!(f, " ({})", self.object),
        }
    }
}

/// Reads everything that the paths name, in order: files, folders (their `.yaml`, `.yml` and `.json` files, by name, with
/// those of folders inside) and `-`, the standard input. Lists are taken apart.
///
/// # Errors
/// Bad input, with file, document and field.
pub fn read(paths: &[PathBuf]) -> Result<Vec<Manifest>, Failure> {
    let mut manifests = Vec::new();
    for path in paths {
        if path.as_os_str() == "-" {
            let mut text = Vec::new();
            io::stdin()
                .take(MAX_FILE_BYTES)
                .read_to_end(&mut text)
                .map_err(|error| Failure::input(format!("standard input: {error}")))?;
            parse("standard input", &text, &mut manifests)?;
            continue;
        }
        for file in files(path)? {
            let name = file.display().to_string();
            let size = fs::metadata(&file).map_err(|error| Failure::input(format!("{name}: {error}")))?.len();
            if size > MAX_FILE_BYTES {
                return Err(Failure::input(format!("{name}: {size} bytes, more than 256 MiB")));
            }
            let text = fs::read(&file).map_err(|error| Failure::input(format!("{name}: {error}")))?;
            parse(&name, &text, &mut manifests)?;
        }
    }
    Ok(manifests)
}

/// Reads the documents of a text that comes with the program.
///
/// # Errors
/// Bad input, with document and field.
pub fn read_text(name: &str, text: &str) -> Result<Vec<Manifest>, Failure> {
    let mut manifests = Vec::new();
    parse(name, text.as_bytes(), &mut manifests)?;
    Ok(manifests)
}

/// The files that a path names.
fn files(path: &Path) -> Result<Vec<PathBuf>, Failure> {
    let failed = |path: &Path, error: io::Error| match error.kind() {
        io::ErrorKind::NotFound => Failure::input(format!("{}: no such file or folder", path.display())),
        _ => Failure::input(format!("{}: {error}", path.display())),
    };
    if !fs::metadata(path).map_err(|error| failed(path, error))?.is_dir() {
        return Ok(vec![path.to_owned()]);
    }
    let mut files = Vec::new();
    let mut folders = vec![path.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).map_err(|error| failed(&folder, error))? {
            let entry = entry.map_err(|error| failed(&folder, error))?;
            let path = entry.path();
            let is_hidden = entry.file_name().to_string_lossy().starts_with('.');
            let kind = entry.file_type().map_err(|error| failed(&path, error))?;
            // A link to a folder could lead back here: only links to files are followed.
            if kind.is_dir() && !is_hidden {
                folders.push(path);
            } else if !is_hidden && has_extension(&path) && path.is_file() {
                files.push(path);
            }
        }
    }
    files.sort();
    match files.is_empty() {
        true => Err(Failure::input(format!("{}: no .yaml, .yml or .json file in it", path.display()))),
        false => Ok(files),
    }
}

fn has_extension(path: &Path) -> bool {
    path.extension().is_some_and(|extension| EXTENSIONS.iter().any(|known| extension == *known))
}

/// Reads the documents of one text.
fn parse(file: &str, text: &[u8], manifests: &mut Vec<Manifest>) -> Result<(), Failure> {
    let text = std::str::from_utf8(text)
        .map_err(|error| Failure::input(format!("{file}: not UTF-8 at byte {}", error.valid_up_to())))?;
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    for (index, object) in documents(file, text)?.into_iter().enumerate() {
        let place = Place { file: file.to_owned(), document: index + 1, item: None, object: String::new() };
        take(Manifest { place, object }, manifests)?;
    }
    Ok(())
}

fn documents(file: &str, text: &str) -> Result<Vec<Value>, Failure> {
    if text.trim_start().starts_with('{') && (file.ends_with(".json") || !text.contains("\n---")) {
        let stream = serde_json::Deserializer::from_str(text).into_iter::<Value>();
        let parsed: Result<Vec<Value>, serde_json::Error> = stream.collect();
        match parsed {
            Ok(documents) => return Ok(documents),
            Err(error) if file.ends_with(".json") => {
                return Err(Failure::input(format!("{file}: not JSON: {error}")));
            }
            // A flow mapping in YAML begins like JSON.
            Err(_) => {}
        }
    }
    let documents = serde_saphyr::from_multiple_with_options::<Value>(text, options());
    let documents = documents.map_err(|error| {
        let line = error.location().map_or(0, |location| location.line());
        let before = text.lines().take(usize::try_from(line).unwrap_or(0));
        let document = before.filter(|line| *line == "---" || line.starts_with("--- ")).count();
        let document = if text.starts_with("---") { document.max(1) } else { document + 1 };
        Failure::input(format!("{file}, document {document}: not YAML: {error}"))
    })?;
    Ok(documents.into_iter().filter(|document| !document.is_null()).collect())
}

/// As kubectl reads YAML: octal numbers begin with a zero; the limits keep an alias bomb from growing.
fn options() -> serde_saphyr::Options {
    let limit = usize::try_from(MAX_FILE_BYTES).unwrap_or(usize::MAX);
    serde_saphyr::options! {
        with_snippet: false,
        legacy_octal_numbers: true,
        budget: serde_saphyr::budget! {
            max_depth: 200,
            max_nodes: 50_000_000,
            max_events: 100_000_000,
            max_documents: 1_000_000,
            max_total_scalar_bytes: limit,
        },
    }
}

/// Takes one document; a List is taken apart.
fn take(mut manifest: Manifest, manifests: &mut Vec<Manifest>) -> Result<(), Failure> {
    let fail = |place: &Place, reason: &str| Failure::input(format!("{place}: {reason}"));
    if !manifest.object.is_object() {
        return Err(fail(
            &manifest.place,
            "not a Kubernetes object: expected a map with apiVersion and kind",
        ));
    }
    let field = |name: &str| manifest.object.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
    let kind = field("kind");
    for (name, value) in [("kind", &kind), ("apiVersion", &field("apiVersion"))] {
        if value.is_empty() {
            return Err(fail(&manifest.place, &format!("{name}: missing")));
        }
    }
    let is_list = kind.ends_with("List") && manifest.object.get("items").is_some();
    if is_list {
        let Some(Value::Array(items)) = manifest.object.get_mut("items").map(Value::take) else {
            return Err(fail(&manifest.place, "items: not a list"));
        };
        let of = kind.strip_suffix("List").filter(|of| !of.is_empty());
        for (index, mut object) in items.into_iter().enumerate() {
            // Typed lists, as the API server answers them, leave kind and version out.
            if let (Some(of), Some(map)) = (of, object.as_object_mut()) {
                map.entry("kind").or_insert_with(|| of.into());
                map.entry("apiVersion").or_insert_with(|| field_of(&manifest.object, "apiVersion"));
            }
            let place = Place { item: Some(index + 1), ..manifest.place.clone() };
            take(Manifest { place, object }, manifests)?;
        }
        return Ok(());
    }
    for field in ["name", "namespace"] {
        let value = manifest.object.pointer(&format!("/metadata/{field}"));
        if !value.is_none_or(|value| value.is_string() || value.is_null()) {
            return Err(fail(&manifest.place, &format!("metadata.{field}: not a string: put it in quotes")));
        }
    }
    let name = manifest.object.pointer("/metadata/name").and_then(Value::as_str).unwrap_or_default();
    manifest.place.object =
        format!("{kind} {name}").trim_end().chars().filter(|c| !c.is_control()).take(120).collect();
    manifests.push(manifest);
    Ok(())
}

fn field_of(object: &Value, name: &str) -> Value {
    object.get(name).cloned().unwrap_or_default()
}

impl Manifest {
    /// The namespace that it names, else `default`.
    pub fn namespace<'a>(&'a self, default: &'a str) -> &'a str {
        let own = self.object.pointer("/metadata/namespace").and_then(Value::as_str);
        own.filter(|namespace| !namespace.is_empty()).unwrap_or(default)
    }

    /// `kind/namespace/name`, for what may stand once only.
    pub fn identity(&self) -> String {
        let field = |pointer: &str| self.object.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
        let group = field("/apiVersion").rsplit_once('/').map_or("", |(group, _)| group);
        format!("{group}/{}/{}/{}", field("/kind"), field("/metadata/namespace"), field("/metadata/name"))
    }
}
