//! What the crate hands on of the crates below it, and what its prelude may be called beside.

use std::collections::BTreeMap;
use std::path::Path;

/// What the crates export that is no part of this one, and why.
const LEFT_OUT: &[(&str, &str)] = &[];

/// The names that a crate exports, each with the `cfg` that it stands under.
type Names = BTreeMap<String, String>;

/// A name that a file exports at its top level.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Export {
    name: String,
    cfg: String,
    /// The import that it comes from; empty for what is defined there.
    import: String,
}

fn source(file: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(file);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Returns the names in `Name`, `{A, B}` or `path::{A, B}`.
///
/// # Panics
///
/// At whatever else an import can say: what it exports cannot be read off its text.
fn names_in(import: &str) -> Vec<String> {
    let (before, list) = match import.split_once('{') {
        Some((before, list)) => (before, list.strip_suffix('}').expect("one list")),
        None => match import.rsplit_once("::") {
            Some((_, name)) => ("", name),
            None => ("", import),
        },
    };
    assert!(
        !before.contains('{') && !list.contains(['{', '*', ':']),
        "{import}"
    );
    let names = list
        .split(',')
        .map(str::trim)
        .filter(|name| !name.is_empty());
    names
        .map(|name| {
            assert!(
                !name.contains(' ') && name != "self",
                "a new name: {import}"
            );
            name.to_owned()
        })
        .collect()
}

/// Reads what a file exports off its top level: all statements there begin a line.
fn exports(text: &str) -> Vec<Export> {
    let mut exports = Vec::new();
    let mut cfg = String::new();
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        if line.starts_with("#[cfg(") {
            cfg = line.to_owned();
            continue;
        }
        if line.starts_with("#[") || line.starts_with("//") {
            continue;
        }
        let cfg = std::mem::take(&mut cfg);
        let Some(item) = line.strip_prefix("pub ") else {
            continue;
        };
        let mut import = String::new();
        let names = if let Some(begin) = item.strip_prefix("use ") {
            import = begin.to_owned();
            while !import.ends_with(';') {
                import.push_str(lines.next().expect("the rest of an import"));
            }
            import.pop();
            names_in(&import)
        } else {
            const BEFORE: [&str; 11] = [
                "async", "const", "enum", "fn", "mod", "static", "struct", "trait", "type",
                "union", "unsafe",
            ];
            let mut words = item.split(|char: char| !char.is_alphanumeric() && char != '_');
            let name = words.find(|word| !BEFORE.contains(word));
            vec![name.expect("a name").to_owned()]
        };
        exports.extend(names.into_iter().map(|name| Export {
            name,
            cfg: cfg.clone(),
            import: import.clone(),
        }));
    }
    exports
}

fn names(exports: impl IntoIterator<Item = Export>) -> Names {
    exports.into_iter().map(|of| (of.name, of.cfg)).collect()
}

/// Adds the macros of a crate, which are exported at its root wherever they stand.
fn add_macros(folder: &Path, names: &mut Names) {
    for entry in std::fs::read_dir(folder).expect("the sources") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            add_macros(&path, names);
        } else if path.extension().is_some_and(|ending| ending == "rs") {
            let text = std::fs::read_to_string(&path).expect("a source");
            for behind in text.split("#[macro_export]").skip(1) {
                let name = behind.split_once("macro_rules!").expect("a macro").1;
                let name = name.split_once('{').expect("its rules").0.trim();
                names.insert(name.to_owned(), String::new());
            }
        }
    }
}

#[test]
fn all_that_the_crates_export_is_handed_on_or_left_out_on_purpose() {
    let facade = exports(&source("src/lib.rs"));
    for (krate, least) in [("core", 60), ("layers", 20), ("router", 15)] {
        let krate = format!("coalescent-{krate}");
        let root = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join(&krate)
            .join("src");
        let mut theirs = names(exports(&source(&format!("{krate}/src/lib.rs"))));
        add_macros(&root, &mut theirs);
        theirs.retain(|name, _| LEFT_OUT.iter().all(|(left, _)| left != name));
        assert!(theirs.len() >= least, "the check reads {krate}: {theirs:?}");

        let path = format!("{}::", krate.replace('-', "_"));
        let ours = facade.iter().filter(|of| of.import.starts_with(&path));
        let ours = names(ours.cloned());
        assert_eq!(ours, theirs, "src/lib.rs, or LEFT_OUT, against {krate}");
    }
}

#[test]
fn the_check_reads_what_a_file_exports() {
    let text = "\
#[cfg(feature = \"a\")]
#[doc(inline)]
pub use x::y::{
    B, C,
};
pub use self::d::D;
pub mod e;
mod f;
pub(crate) use g::G;
pub struct H<T>(T);
pub const I: u8 = 0;
";
    let names = names(exports(text));
    let cfg = "#[cfg(feature = \"a\")]";
    let expected = [
        ("B", cfg),
        ("C", cfg),
        ("D", ""),
        ("H", ""),
        ("I", ""),
        ("e", ""),
    ];
    let expected = expected.map(|(name, cfg)| (name.to_owned(), cfg.to_owned()));
    assert_eq!(names, Names::from(expected));
    for unreadable in ["x::*", "x::{a::B}", "x::A as B", "x::{self}"] {
        let read = std::panic::catch_unwind(|| names_in(unreadable));
        assert!(read.is_err(), "{unreadable}: {read:?}");
    }
}

/// The prelude, in the same module as all that axum has. A name that both had could not be used
/// here, which would not compile.
mod beside_axum {
    #![allow(unused_imports, reason = "the imports are what is tested")]

    use axum::body::*;
    use axum::extract::*;
    use axum::middleware::*;
    use axum::response::*;
    use axum::routing::*;
    use axum::*;
    use coalescent::prelude::*;

    macro_rules! usable {
        ($($name:ident)*) => {
            $(use self::$name as _;)*

            pub(super) const NAMES: &[&str] = &[$(stringify!($name)),*];
        };
    }

    usable! {
        App AppExt Courier Discovery Event Frame IntoReply Mesh MeshExt MeshRouterExt Message
        MessageType Peer PeerExt Plugin Refusal Registrar Reply Shared SmartRelay Tattletale Type
        Typed Wire ends message_type
    }
}

#[test]
fn no_name_of_the_prelude_is_one_of_axums() {
    let facade = source("src/lib.rs");
    let (_, prelude) = facade.split_once("pub mod prelude {").expect("the prelude");
    let (prelude, _) = prelude.split_once("\n}").expect("its end");
    let prelude = prelude.replace("\n    ", "\n");
    let names: Vec<_> = names(exports(&prelude)).into_keys().collect();
    let mut tried = beside_axum::NAMES.to_vec();
    tried.sort_unstable();
    assert_eq!(names, tried, "the prelude, and what is tried beside axum");
}
