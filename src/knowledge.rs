//! What the program knows of services and apps: the recipes and profiles that come with it, and those of the operator.
use opportune_core::{
    data::DataError,
    discover::{Inventory, Recipes},
    inject::profile::Profiles,
};
use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
};

/// The most bytes that one file may have.
const MAX_FILE_BYTES: u64 = 1024 * 1024;

/// Why a recipe or profile can't be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file or folder can't be read.
    #[error("{}: {source}", path.display())]
    Read {
        /// The file or folder.
        path: PathBuf,
        /// What the system says.
        #[source]
        source: io::Error,
    },
    /// A file holds no recipe or profile.
    #[error(transparent)]
    Wrong(#[from] DataError),
}

/// Where the operator's own recipes and profiles stand: folders, of which the `.yaml` and `.yml` files are read.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct Folders {
    /// Folders with recipes of your own; one that is named like a built-in recipe takes its place.
    #[arg(long, value_name = "FOLDER", num_args = 1.., value_delimiter = ',', env = "OPPORTUNE_RECIPES")]
    pub recipes: Vec<PathBuf>,
    /// Folders with profiles of your own; one that is named like a built-in profile takes its place.
    #[arg(long, value_name = "FOLDER", num_args = 1.., value_delimiter = ',', env = "OPPORTUNE_PROFILES")]
    pub profiles: Vec<PathBuf>,
}

// === impl Folders ===

impl Folders {
    /// An inventory that knows what comes with the program and what stands in these folders, and no cluster yet.
    ///
    /// # Errors
    /// [`Error`], which names the file and the field.
    pub fn inventory(&self) -> Result<Inventory, Error> {
        let recipes = read(&self.recipes)?;
        let recipes = Recipes::built_in_with(manifests(&recipes))?;
        let profiles = read(&self.profiles)?;
        let source = |name: &str| beside(&profiles, name);
        let own = Profiles::read(manifests(&profiles), &source)?;
        let profiles = Profiles::built_in()?.with(own.iter().cloned());
        Ok(Inventory::new(Arc::new(recipes), profiles))
    }
}

/// All files of the folders, by path.
type Files = BTreeMap<PathBuf, String>;

fn read(folders: &[PathBuf]) -> Result<Files, Error> {
    let mut files = Files::new();
    for folder in folders {
        let failed = |path: &Path, source| Error::Read { path: path.to_owned(), source };
        for entry in fs::read_dir(folder).map_err(|error| failed(folder, error))? {
            let path = entry.map_err(|error| failed(folder, error))?.path();
            // A mounted ConfigMap holds its files as links, and its own folders with a leading `..`.
            let size = fs::metadata(&path).map_err(|error| failed(&path, error))?;
            if !size.is_file() {
                continue;
            }
            if size.len() > MAX_FILE_BYTES {
                return Err(failed(&path, io::Error::other("larger than 1 MiB")));
            }
            let text = fs::read_to_string(&path).map_err(|error| failed(&path, error))?;
            files.insert(path, text);
        }
    }
    Ok(files)
}

fn manifests(files: &Files) -> impl Iterator<Item = (&str, &str)> {
    files.iter().filter_map(|(path, text)| {
        let extension = path.extension()?.to_str()?;
        ["yaml", "yml"].contains(&extension).then_some((path.to_str()?, text.as_str()))
    })
}

/// The text file that a profile names: one in the same folders, by its name without a path.
fn beside(files: &Files, name: &str) -> Option<String> {
    let name = Path::new(name).file_name()?;
    files.iter().find(|(path, _)| path.file_name() == Some(name)).map(|(_, text)| text.clone())
}
