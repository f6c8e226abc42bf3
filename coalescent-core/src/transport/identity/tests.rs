use std::fs;
use std::path::PathBuf;
use std::sync::Barrier;

use super::*;

/// Written by `openssl genpkey -algorithm ed25519`; the id is the one that `openssl pkey -text`
/// shows.
const OPENSSL: &str = "-----BEGIN PRIVATE KEY-----
MC4CAQAwBQYDK2VwBCIEIJv493pcO4l0C13ajRLopObkwpYFEzjS78Nrqecg7YH8
-----END PRIVATE KEY-----
";
const OPENSSL_ID: &str = "7bd41f76fbcd3b5c36f35e5ab07da4b5de33a3a7f3068124a280be655b02ecd3";

const ENCRYPTED: &str = "-----BEGIN ENCRYPTED PRIVATE KEY-----
MIGbMFcGCSqGSIb3DQEFDTBKMCkGCSqGSIb3DQEFDDAcBAi4oN713LcLdQICCAAw
DAYIKoZIhvcNAgkFADAdBglghkgBZQMEASoEEF7sCeZln7wUoUxLjHi1HgcEQJ0H
oyVplG3AqzG9qXvCV1qzQoJB8mM1hxkuCdDZouf0VJMV3K8OFpM5USryD3sO8/xZ
PIl6ghyYyI3WuOFiz3I=
-----END ENCRYPTED PRIVATE KEY-----
";

const P256: &str = "-----BEGIN PRIVATE KEY-----
MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgb7bpvD7LK1m4YSZ6
A+tZaAmXxpTsgWsZvJxqD7fOOSqhRANCAAQd4mzw9YjoJOJBtMQTx7VhiHMZfDNj
3aZ9/3Lj+1u5T26AgAlMfQHWxDLVBlHxQuTaIoXYHT9X7qqUjkBS+ai+
-----END PRIVATE KEY-----
";

const X25519: &str = "-----BEGIN PRIVATE KEY-----
MC4CAQAwBQYDK2VuBCIEIADgAKa3jQg80Q1NY1ZdcQgywUtuegwn2rELMzWG7tlQ
-----END PRIVATE KEY-----
";

fn key_file(content: &str) -> (tempfile::TempDir, PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("node.key");
    fs::write(&path, content).unwrap();
    set_mode(&path, 0o600);
    (directory, path)
}

#[cfg(unix)]
fn set_mode(path: &Path, mode: u32) {
    use std::os::unix::fs::PermissionsExt;
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

#[cfg(not(unix))]
fn set_mode(_: &Path, _: u32) {}

#[test]
fn a_key_made_by_openssl_has_the_id_that_openssl_shows() {
    let (_directory, path) = key_file(OPENSSL);
    assert_eq!(Identity::load(path).unwrap().id().to_string(), OPENSSL_ID);
}

#[test]
fn a_key_is_written_in_the_format_of_openssl() {
    let der = PrivatePkcs8KeyDer::from_pem_slice(OPENSSL.as_bytes()).unwrap();
    let secret = der.secret_pkcs8_der()[16..].try_into().unwrap();
    assert_eq!(to_pem(&secret), OPENSSL);
}

#[test]
fn version_2_keys_are_accepted_in_both_encodings() {
    let v1 = PrivatePkcs8KeyDer::from_pem_slice(OPENSSL.as_bytes()).unwrap();
    let secret = &v1.secret_pkcs8_der()[16..];
    let id: PublicKey = OPENSSL_ID.parse().unwrap();
    let algorithm = &PKCS8_PREFIX[5..];
    let standard = [
        &[0x30, 0x51, 2, 1, 1],
        algorithm,
        secret,
        &[0x81, 0x21, 0],
        id.as_ref(),
    ];
    let legacy = [
        &[0x30, 0x53, 2, 1, 1],
        algorithm,
        secret,
        &[0xa1, 0x23, 3, 0x21, 0],
        id.as_ref(),
    ];
    for parts in [standard, legacy] {
        let der = parts.concat();
        assert_eq!(Identity::from_pkcs8_der(&der).unwrap().id(), id);
        let mut of_another = der;
        *of_another.last_mut().unwrap() ^= 1;
        assert!(
            Identity::from_pkcs8_der(&of_another)
                .unwrap_err()
                .is_invalid()
        );
    }
}

#[test]
fn a_generated_key_is_loaded_again() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("node.key");
    assert!(Identity::load(&path).unwrap_err().is_io());
    let made = Identity::load_or_generate(&path).unwrap();
    assert_eq!(Identity::load_or_generate(&path).unwrap().id(), made.id());
    assert_eq!(Identity::load(&path).unwrap().id(), made.id());
    assert_eq!(
        fs::read_dir(directory.path()).unwrap().count(),
        1,
        "a draft is left behind"
    );
    assert_ne!(Identity::generate().id(), made.id());
}

#[cfg(unix)]
#[test]
fn a_generated_file_has_mode_0600() {
    use std::os::unix::fs::PermissionsExt;
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("node.key");
    Identity::load_or_generate(&path).unwrap();
    assert_eq!(
        fs::metadata(&path).unwrap().permissions().mode() & 0o7777,
        0o600
    );
}

#[cfg(unix)]
#[test]
fn a_file_that_others_can_access_is_rejected_with_a_fix() {
    let (_directory, path) = key_file(OPENSSL);
    for mode in [0o644, 0o640, 0o604, 0o620, 0o602, 0o601] {
        set_mode(&path, mode);
        for result in [Identity::load(&path), Identity::load_or_generate(&path)] {
            let error = result.unwrap_err();
            assert!(error.is_permissions() && !error.is_invalid(), "{mode:o}");
            let command = format!("chmod 600 {}", path.display());
            assert!(error.to_string().contains(&command), "{error}");
        }
    }
    set_mode(&path, 0o400);
    assert!(Identity::load(&path).is_ok());
}

#[test]
fn concurrent_creators_of_a_file_get_the_same_key() {
    let directory = tempfile::tempdir().unwrap();
    for round in 0..50 {
        let path = directory.path().join(format!("{round}.key"));
        let barrier = Barrier::new(8);
        let ids: Vec<PublicKey> = std::thread::scope(|scope| {
            let load = || {
                barrier.wait();
                Identity::load_or_generate(&path).unwrap().id()
            };
            let threads: Vec<_> = (0..8).map(|_| scope.spawn(load)).collect();
            threads
                .into_iter()
                .map(|thread| thread.join().unwrap())
                .collect()
        });
        assert!(ids.iter().all(|id| *id == ids[0]), "{ids:?}");
        assert_eq!(Identity::load(&path).unwrap().id(), ids[0]);
    }
}

#[test]
fn a_truncated_or_corrupt_key_file_is_an_error_that_names_it() {
    for content in [
        "",
        "not a key\n",
        &OPENSSL[..40],
        &OPENSSL[..95],
        &OPENSSL.replace("MC4C", "MC5C"),
        &OPENSSL.replace("MC4C", "M!4C"),
        &OPENSSL.replace("7YH8", ""),
        "-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n",
        &"#".repeat(20_000),
        ENCRYPTED,
        P256,
        X25519,
    ] {
        let (_directory, path) = key_file(content);
        for result in [Identity::load(&path), Identity::load_or_generate(&path)] {
            let error = result.unwrap_err();
            assert!(error.is_invalid() && !error.is_io(), "{content}: {error}");
            assert_eq!(error.path(), Some(path.as_path()));
            assert!(error.to_string().contains("node.key"), "{error}");
            assert!(
                !error.to_string().contains("93pcO4l0C13a"),
                "shows the secret"
            );
        }
        assert_eq!(
            fs::read_to_string(&path).unwrap(),
            content,
            "was overwritten"
        );
    }
}

#[test]
fn errors_distinguish_their_causes() {
    let message = |pem| Identity::from_pkcs8_pem(pem).unwrap_err().to_string();
    assert!(message(ENCRYPTED).contains("passphrase"));
    assert!(message(P256).contains("not an ed25519 key"));
    assert!(message(X25519).contains("not an ed25519 key"));
    assert!(message(&OPENSSL[..95]).contains("damaged"));
    assert!(message("hello").contains("PRIVATE KEY"));
}

#[test]
fn a_missing_directory_and_a_directory_are_reported_as_such() {
    let directory = tempfile::tempdir().unwrap();
    let missing = Identity::load_or_generate(directory.path().join("no/node.key")).unwrap_err();
    assert!(missing.is_io());
    assert!(
        missing.to_string().contains("directory is missing"),
        "{missing}"
    );
    let error = Identity::load_or_generate(directory.path()).unwrap_err();
    assert!(error.is_io());
    assert!(error.to_string().contains("is a directory"), "{error}");
}

#[cfg(unix)]
#[test]
fn a_pipe_is_rejected_without_blocking() {
    let error = Identity::load_or_generate("/dev/null").unwrap_err();
    assert!(error.to_string().contains("not a regular file"), "{error}");
    let directory = tempfile::tempdir().unwrap();
    let dangling = directory.path().join("node.key");
    std::os::unix::fs::symlink("nowhere", &dangling).unwrap();
    assert!(Identity::load_or_generate(&dangling).unwrap_err().is_io());
}

#[test]
fn debug_shows_the_id_but_not_the_secret() {
    let identity = Identity::from_pkcs8_pem(OPENSSL).unwrap();
    let text = format!("{identity:?}");
    assert!(text.contains(OPENSSL_ID));
    assert!(
        !text.contains("9bf8f77a") && !text.contains("155, 248"),
        "{text}"
    );
}

#[test]
fn an_error_with_a_cause_displays_its_own_level() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("node.key");
    let missing = Identity::load(&file).unwrap_err();
    // In a place of what is no directory, neither can anything be read nor made.
    std::fs::write(&file, "no key").unwrap();
    let read = Identity::load(file.join("x")).unwrap_err();
    let made = Identity::load_or_generate(dir.path().join("no").join("x")).unwrap_err();
    for error in [missing, read, made] {
        crate::error::check_levels(&error);
        assert_eq!(
            format!("{error:?}"),
            crate::error::report(&error).to_string()
        );
    }
    let invalid = Identity::from_pkcs8_pem("no key").unwrap_err();
    assert!(std::error::Error::source(&invalid).is_none());
    assert!(
        format!("{invalid:?}").contains("BEGIN PRIVATE KEY"),
        "{invalid:?}"
    );
}
