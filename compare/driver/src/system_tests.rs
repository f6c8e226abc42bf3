use super::*;

fn places(folder: &Path) -> Places {
    Places {
        programs: folder.join("bin"),
        home: folder.to_path_buf(),
    }
}

#[test]
fn each_name_is_its_own_system() {
    for system in ALL {
        assert_eq!(System::named(system.name()), Some(*system));
    }
    assert_eq!(System::named("load"), None);
}

#[test]
fn one_load_for_all_on_the_native_wire() {
    let places = places(Path::new("/suite"));
    let hand = System::Hand.load(&places);
    assert_eq!(hand, System::Coalescent.load(&places));
    assert_eq!(hand.path, Path::new("/suite/bin/load"));
    let npm = System::Npm.load(&places);
    assert_eq!(npm.path, hand.path);
    assert_eq!(
        npm.arguments(vec!["load".into()]),
        ["load", "--wire", "raw"]
    );
    let iroh = System::Iroh.load(&places);
    assert_eq!(iroh, System::Iroh.own(&places));
}

#[test]
fn the_original_is_a_script_of_node() {
    let npm = System::Npm.own(&places(Path::new("/suite")));
    assert_eq!(npm.path, Path::new("node"));
    assert_eq!(
        npm.arguments(vec!["hub".into()]),
        ["/suite/npm/hub.js", "hub"]
    );
}

#[test]
fn a_program_is_found_in_the_path() {
    assert!(in_path(Path::new("sh")));
    assert!(!in_path(Path::new("no such program")));
}

#[test]
fn a_missing_file_is_named() -> std::io::Result<()> {
    let folder = tempfile::tempdir()?;
    let places = places(folder.path());
    std::fs::create_dir(&places.programs)?;
    let said = System::Hand.missing(&places).unwrap_or_default();
    assert!(said.contains("bin/hand is missing"), "{said}");
    std::fs::write(places.programs.join("hand"), "")?;
    let said = System::Hand.missing(&places).unwrap_or_default();
    assert!(said.contains("bin/load is missing"), "{said}");
    std::fs::write(places.programs.join("load"), "")?;
    assert_eq!(System::Hand.missing(&places), None);

    let said = System::Npm.missing(&places).unwrap_or_default();
    assert!(said.contains("not installed"), "{said}");
    std::fs::create_dir_all(places.home.join("npm/node_modules"))?;
    let said = System::Npm.missing(&places).unwrap_or_default();
    assert!(said.contains("npm/hub.js is missing"), "{said}");
    Ok(())
}
