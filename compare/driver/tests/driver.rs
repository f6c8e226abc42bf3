//! The driver as a whole, with systems that measure nothing.

use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

type Result<T = ()> = std::result::Result<T, Box<dyn Error>>;

/// A folder with fake systems.
struct Suite {
    folder: TempDir,
}

impl Suite {
    fn with(systems: &[&str]) -> Result<Suite> {
        let folder = TempDir::new()?;
        let fake = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fake-system");
        for system in systems {
            fs::copy(&fake, folder.path().join(system))?;
        }
        Ok(Suite { folder })
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn driver(&self, arguments: &str) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_driver"));
        command
            .args(["--quick", "--seconds", "0.2", "--name", "raw"])
            .arg("--programs")
            .arg(self.folder.path())
            .arg("--home")
            .arg(self.folder.path())
            .args(arguments.split_whitespace())
            .env("FAKE_PIDS", self.path("pids"))
            .stdin(Stdio::null());
        command
    }

    fn raw(&self) -> Result<serde_json::Value> {
        let text = fs::read_to_string(self.path("results/raw.json"))?;
        Ok(serde_json::from_str(&text)?)
    }

    /// Returns the started processes that still run after 10 s.
    fn left_running(&self) -> Result<Vec<String>> {
        let pids = fs::read_to_string(self.path("pids"))?;
        let asked = Instant::now();
        loop {
            let alive = |pid: &&str| Path::new(&format!("/proc/{pid}")).exists();
            let left: Vec<String> = pids.lines().filter(alive).map(str::to_owned).collect();
            if left.is_empty() || asked.elapsed() > Duration::from_secs(10) {
                return Ok(left);
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

const NATIVE: &[&str] = &["hand", "coalescent", "load"];

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// Returns the lines of stderr that are about a system.
fn said_of(system: &str, output: &Output) -> Vec<String> {
    let start = format!("{system}: ");
    stderr(output)
        .lines()
        .filter(|line| line.starts_with(&start))
        .map(str::to_owned)
        .collect()
}

#[test]
fn all_workloads_run_and_are_written() -> Result {
    let suite = Suite::with(NATIVE)?;
    let output = suite.driver("--systems hand,coalescent").output()?;
    assert!(output.status.success(), "{}", stderr(&output));
    let table = String::from_utf8(output.stdout)?;
    assert!(table.contains("1.000 ok"), "{table}");
    assert!(table.contains(" 0 short, "), "{table}");

    let raw = suite.raw()?;
    let hub = &raw["workloads"][0];
    assert_eq!(hub["name"], "hub-tattletale");
    let run = &hub["points"][0]["systems"][1]["runs"][0];
    assert_eq!(run["figures"][0], 5000.0);
    assert_eq!(run["result"]["deliveries"], 1000);
    assert_eq!(run["server"]["result"]["peers"], 9);
    let peak = &run["server"]["usage"]["peak_rss_bytes"];
    assert!(peak.as_u64() > Some(0), "{run}");

    let document = fs::read_to_string(suite.path("results/results.md"))?;
    assert!(document.contains("## hub-tattletale"), "{document}");
    assert!(suite.path("results/hub-tattletale.svg").is_file());
    assert!(suite.path("results/relay-latency.svg").is_file());
    assert_eq!(suite.left_running()?, [""; 0]);
    Ok(())
}

#[test]
fn a_missing_system_is_a_line_and_the_others_run() -> Result {
    let suite = Suite::with(NATIVE)?;
    let output = suite.driver("--only hub-tattletale").output()?;
    assert!(output.status.success(), "{}", stderr(&output));
    let npm = said_of("npm", &output);
    assert_eq!(npm.len(), 1, "{npm:?}");
    assert!(npm[0].starts_with("npm: not installed, "), "{npm:?}");
    let gossipsub = said_of("gossipsub", &output);
    assert_eq!(gossipsub.len(), 1, "{gossipsub:?}");
    assert!(
        gossipsub[0].starts_with("gossipsub: not built, "),
        "{gossipsub:?}"
    );
    let systems = suite.raw()?["workloads"][0]["points"][0]["systems"].clone();
    assert_eq!(systems.as_array().map(Vec::len), Some(2));
    Ok(())
}

#[test]
fn a_system_that_did_not_build_is_left_out_with_the_given_reason() -> Result {
    let suite = Suite::with(NATIVE)?;
    let output = suite
        .driver("--only hub-tattletale --systems hand,iroh")
        .args(["--without", "iroh=does not build: error: no"])
        .output()?;
    assert!(output.status.success(), "{}", stderr(&output));
    let said = said_of("iroh", &output);
    assert_eq!(said, ["iroh: does not build: error: no"]);
    assert_eq!(suite.raw()?["left_out"][0]["system"], "iroh");
    Ok(())
}

#[test]
fn a_missing_coalescent_fails_the_run() -> Result {
    let suite = Suite::with(&["hand", "load"])?;
    let output = suite.driver("--only hub-tattletale").output()?;
    assert_eq!(output.status.code(), Some(1));
    assert!(said_of("coalescent", &output)[0].starts_with("coalescent: not built, "));
    Ok(())
}

#[test]
fn a_failure_is_one_line_with_its_cause() -> Result {
    let suite = Suite::with(&["hand", "coalescent", "load", "gossipsub"])?;
    let at = "hub-tattletale, size 64, ";
    for (behaviour, expected) in [
        (
            "hub-crashes",
            "server `hub --relay tattletale`: exit status 1: the port is in use",
        ),
        (
            "hub-hangs",
            "server `hub --relay tattletale`: no address within 0.5 s",
        ),
        (
            "hub-babbles",
            "server `hub --relay tattletale`: prints what is no object: hello there",
        ),
        (
            "hub-ends-badly",
            "server `hub --relay tattletale`: exit status 3: lost its way",
        ),
        (
            "load-crashes",
            "client `load --publishers 1 --subscribers 8 --size 64 --seconds 0.2`: exit status 1: the port is in use",
        ),
        (
            "load-hangs",
            "client `load --publishers 1 --subscribers 8 --size 64 --seconds 0.2`: no result within 0.7 s",
        ),
        (
            "load-counts-nothing",
            "client `load --publishers 1 --subscribers 8 --size 64 --seconds 0.2`: has 0 for \"deliveries\"",
        ),
    ] {
        let output = suite
            .driver("--only hub-tattletale --systems hand,coalescent,gossipsub --patience 0.5")
            .args(["--repetitions", "2"])
            .env("FAKE_gossipsub", behaviour)
            .output()?;
        assert!(output.status.success(), "{behaviour}: {}", stderr(&output));
        let said = said_of("gossipsub", &output);
        assert_eq!(said, [format!("gossipsub: {at}{expected}")]);
        let systems = suite.raw()?["workloads"][0]["points"][0]["systems"].clone();
        assert_eq!(
            systems[1]["runs"].as_array().map(Vec::len),
            Some(2),
            "{behaviour}"
        );
        assert_eq!(suite.left_running()?, [""; 0], "{behaviour}");
    }
    Ok(())
}

#[test]
fn a_failure_of_coalescent_fails_the_run() -> Result {
    let suite = Suite::with(NATIVE)?;
    let output = suite
        .driver("--only hub-tattletale,one-hop --systems hand,coalescent")
        .env("FAKE_coalescent", "send-crashes")
        .output()?;
    assert_eq!(output.status.code(), Some(1));
    let table = String::from_utf8(output.stdout)?;
    assert!(table.contains("1 ok, 0 short, 1 not measured"), "{table}");
    Ok(())
}

#[test]
fn an_unknown_role_is_tried_once() -> Result {
    let suite = Suite::with(&["hand", "coalescent", "load", "iroh"])?;
    let output = suite
        .driver("--only hub-tattletale --systems hand,iroh --sizes 64,1024")
        .env("FAKE_iroh", "hub-is-unknown")
        .output()?;
    assert!(output.status.success(), "{}", stderr(&output));
    assert_eq!(said_of("iroh", &output).len(), 1, "{}", stderr(&output));
    Ok(())
}

#[test]
fn repetitions_are_interleaved() -> Result {
    let suite = Suite::with(NATIVE)?;
    let mut driver = suite.driver("--only mesh --systems hand,coalescent --repetitions 3");
    let output = driver.output()?;
    assert!(output.status.success(), "{}", stderr(&output));
    let systems = suite.raw()?["workloads"][0]["points"][0]["systems"].clone();
    for system in [0, 1] {
        let summary = &systems[system]["summaries"][1];
        assert_eq!(summary["repetitions"], 3);
        assert_eq!(summary["median"], 29_000.0);
    }
    Ok(())
}

#[test]
fn an_interrupt_leaves_no_process_and_no_results() -> Result {
    let suite = Suite::with(NATIVE)?;
    let driver = suite
        .driver("--only hub-tattletale --systems hand")
        .env("FAKE_load", "load-hangs")
        .stderr(Stdio::piped())
        .spawn()?;
    let asked = Instant::now();
    let started = || fs::read_to_string(suite.path("pids")).map_or(0, |pids| pids.lines().count());
    while started() < 3 && asked.elapsed() < Duration::from_secs(10) {
        std::thread::sleep(Duration::from_millis(20));
    }
    assert_eq!(started(), 3);
    let pid = driver.id().to_string();
    let sent = Command::new("sh")
        .args(["-c", "kill -INT \"$0\"", &pid])
        .status()?;
    assert!(sent.success());
    let output = driver.wait_with_output()?;
    assert_eq!(output.status.code(), Some(130), "{}", stderr(&output));
    assert_eq!(suite.left_running()?, [""; 0]);
    assert!(!suite.path("results/raw.json").exists());
    Ok(())
}

#[test]
fn an_invalid_argument_is_a_line_and_status_2() -> Result {
    let suite = Suite::with(&[])?;
    let output = suite.driver("--sizes 65").output()?;
    assert_eq!(output.status.code(), Some(2));
    assert_eq!(
        stderr(&output),
        "driver: --sizes takes 64, 1024, 65536, not \"65\"\n"
    );
    Ok(())
}
