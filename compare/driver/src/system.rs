//! The systems that are compared, and where their programs are.

use std::fmt;
use std::path::{Path, PathBuf};

/// A system of the comparison.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum System {
    /// The limit: each role written by hand for its purpose, without a framework.
    Hand,
    /// The same roles through coalescent's public API.
    Coalescent,
    /// The Node original.
    Npm,
    /// rust-libp2p's gossipsub.
    Gossipsub,
    /// iroh-gossip.
    Iroh,
}

/// All systems, in the order in which a repetition runs them and a table shows them.
pub(crate) const ALL: &[System] = &[
    System::Hand,
    System::Coalescent,
    System::Npm,
    System::Gossipsub,
    System::Iroh,
];

/// The systems whose failure fails the comparison.
pub(crate) const OURS: &[System] = &[System::Hand, System::Coalescent];

impl System {
    /// The name on the command line, in tables and in the raw results.
    pub(crate) fn name(self) -> &'static str {
        match self {
            System::Hand => "hand",
            System::Coalescent => "coalescent",
            System::Npm => "npm",
            System::Gossipsub => "gossipsub",
            System::Iroh => "iroh",
        }
    }

    /// The system of that name.
    pub(crate) fn named(name: &str) -> Option<System> {
        ALL.iter().copied().find(|system| system.name() == name)
    }

    /// Returns the folders of the suite with its server and its clients.
    pub(crate) fn folders(self) -> &'static [&'static str] {
        match self {
            System::Hand | System::Coalescent => &["native"],
            System::Npm => &["npm", "native"],
            System::Gossipsub => &["gossipsub"],
            System::Iroh => &["iroh"],
        }
    }

    /// Returns the program that plays the server, and the client where a workload asks for the
    /// system's own.
    pub(crate) fn own(self, places: &Places) -> Program {
        match self {
            System::Npm => Program {
                path: PathBuf::from("node"),
                before: vec![places.npm().join("hub.js").display().to_string()],
                after: &[],
            },
            _ => Program::built(places, self.name(), &[]),
        }
    }

    /// Returns the program that puts load on the system. It is the same for all systems on the
    /// native wire, so that only the server differs. The Node original gets it as raw bytes; the
    /// others have protocols of their own.
    pub(crate) fn load(self, places: &Places) -> Program {
        match self {
            System::Hand | System::Coalescent => Program::built(places, "load", &[]),
            System::Npm => Program::built(places, "load", &["--wire", "raw"]),
            System::Gossipsub | System::Iroh => self.own(places),
        }
    }

    /// Returns which file of the system is not built or not installed, if one is missing.
    pub(crate) fn missing(self, places: &Places) -> Option<String> {
        if self == System::Npm {
            let modules = places.npm().join("node_modules");
            if !modules.is_dir() {
                return Some(format!(
                    "not installed, {} is missing (npm ci)",
                    modules.display()
                ));
            }
        }
        for program in [self.own(places), self.load(places)] {
            if let Some(file) = program.files().find(|file| !file.is_file()) {
                return Some(format!("not built, {} is missing", file.display()));
            }
            if program.is_named_only() && !in_path(&program.path) {
                return Some(format!("{} is not installed", program.path.display()));
            }
        }
        None
    }
}

/// Returns whether a program of that name is in `PATH`.
fn in_path(name: &Path) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|folder| folder.join(name).is_file())
}

impl fmt::Display for System {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// The folders of the programs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Places {
    /// The folder of the built programs.
    pub(crate) programs: PathBuf,
    /// The folder of the suite, which contains `npm`.
    pub(crate) home: PathBuf,
}

impl Places {
    fn npm(&self) -> PathBuf {
        self.home.join("npm")
    }
}

/// A program to start, without the arguments of its role.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Program {
    /// The executable; a bare name is searched in `PATH`.
    pub(crate) path: PathBuf,
    /// Arguments before those of the role, each a file.
    pub(crate) before: Vec<String>,
    /// Arguments after those of the role.
    pub(crate) after: &'static [&'static str],
}

impl Program {
    fn built(places: &Places, name: &str, after: &'static [&'static str]) -> Program {
        Program {
            path: Path::new(&places.programs).join(name),
            before: Vec::new(),
            after,
        }
    }

    /// Returns whether it is searched in `PATH`.
    fn is_named_only(&self) -> bool {
        self.path.components().count() == 1
    }

    /// Returns the files that it consists of, as far as they are known.
    fn files(&self) -> impl Iterator<Item = &Path> {
        let before = self.before.iter().map(Path::new);
        before.chain((!self.is_named_only()).then_some(self.path.as_path()))
    }

    /// Returns all arguments, given those of the role.
    pub(crate) fn arguments(&self, role: Vec<String>) -> Vec<String> {
        let after = self.after.iter().map(|argument| argument.to_string());
        self.before
            .iter()
            .cloned()
            .chain(role)
            .chain(after)
            .collect()
    }
}

#[cfg(test)]
#[path = "system_tests.rs"]
mod tests;
