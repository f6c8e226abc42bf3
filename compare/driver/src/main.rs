//! Runs the systems of the comparison as processes, measures them from outside, and reports how
//! they compare.
//!
//! - [`workload`]: the definition of a workload; [`workload::table`] lists all of them.
//! - [`system`]: the systems, and where their programs are.
//! - [`options`]: the command line.
//! - [`process`], [`output`]: a child process, and its output.
//! - [`procfs`], [`track`]: memory and CPU time of a process.
//! - [`measure`]: one run; [`suite`]: all runs, interleaved.
//! - [`stats`]: medians, ratios, verdicts.
//! - [`report`], [`plot`]: what is printed and written; [`machine`]: where it ran.

mod machine;
mod measure;
mod options;
mod output;
mod plot;
mod process;
mod procfs;
mod report;
mod stats;
mod suite;
mod system;
mod track;
mod workload;

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use rustix::process::{Resource, Rlimit};

use crate::machine::Machine;
use crate::measure::Conditions;
use crate::options::{Action, Options, Planned, USAGE};
use crate::report::Preface;
use crate::suite::{Interrupted, Results};
use crate::system::Places;

/// The exit status for arguments that cannot be used.
const UNUSABLE: u8 = 2;
/// The exit status after a signal, as shells use it for an interrupt.
const INTERRUPTED: u8 = 130;

fn main() -> ExitCode {
    let action = match options::parse(std::env::args_os().skip(1)) {
        Ok(action) => action,
        Err(said) => {
            eprintln!("driver: {said}");
            return ExitCode::from(UNUSABLE);
        }
    };
    let done = match action {
        Action::Help => print(&format!("{USAGE}\n")),
        Action::List(plan) => print(&list(&plan)),
        Action::Needs(folders) => {
            let folders: Vec<_> = folders.into_iter().collect();
            print(&format!("{}\n", folders.join(" ")))
        }
        Action::Run(options) => run(options),
    };
    match done {
        Ok(status) => status,
        Err(said) => {
            eprintln!("driver: {said}");
            ExitCode::FAILURE
        }
    }
}

fn print(text: &str) -> Result<ExitCode, String> {
    std::io::stdout()
        .write_all(text.as_bytes())
        .map_err(|error| format!("nothing can be printed: {error}"))?;
    Ok(ExitCode::SUCCESS)
}

/// Returns the workloads, each with its sentence, values and systems.
fn list(plan: &[Planned]) -> String {
    let width = plan.iter().map(|planned| planned.workload.name.len()).max();
    let width = width.unwrap_or(0);
    let lines = plan.iter().map(|planned| {
        let (workload, values) = (planned.workload, &planned.values);
        let values: Vec<_> = values.iter().map(u64::to_string).collect();
        let systems: Vec<_> = planned.systems.iter().map(|system| system.name()).collect();
        format!(
            "{:width$}  {}\n{:width$}  {} {}; {}\n",
            workload.name,
            workload.meaning,
            "",
            workload.sweep.of,
            values.join(", "),
            systems.join(", "),
        )
    });
    lines.collect()
}

fn run(options: Options) -> Result<ExitCode, String> {
    let interrupted = Arc::new(AtomicBool::new(false));
    for signal in [
        signal_hook::consts::SIGINT,
        signal_hook::consts::SIGTERM,
        signal_hook::consts::SIGHUP,
    ] {
        signal_hook::flag::register(signal, Arc::clone(&interrupted))
            .map_err(|error| format!("signals cannot be handled: {error}"))?;
    }
    allow_many_connections();

    let home = options
        .home
        .unwrap_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join(".."));
    let programs = match options.programs {
        Some(programs) => programs,
        None => own_folder()?,
    };
    let out = options.out.unwrap_or_else(|| home.join("results"));
    let began = machine::now();
    let preface = Preface {
        name: options.name.unwrap_or_else(|| began.clone()),
        began,
        machine: Machine::look(&home),
        repetitions: options.repetitions,
        seconds: options.seconds,
        quick: options.quick,
    };
    // An unwritable folder is better reported before the runs than after.
    fs::create_dir_all(&out).map_err(|error| format!("{}: {error}", out.display()))?;

    let conditions = Conditions {
        places: Places { programs, home },
        without: options.without,
        seconds: options.seconds,
        quick: options.quick,
        patience: options.patience,
        interrupted,
    };
    let results = match suite::run(
        &options.plan,
        options.repetitions,
        &conditions,
        &mut std::io::stderr(),
    ) {
        Ok(results) => results,
        Err(Interrupted) => {
            eprintln!("driver: interrupted, nothing is written");
            return Ok(ExitCode::from(INTERRUPTED));
        }
    };
    write_all(&out, &preface, &results)?;
    print(&format!("\n{}", report::table(&results)))?;
    Ok(if results.failed() {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    })
}

/// Writes the raw results, the document and the plots.
fn write_all(out: &Path, preface: &Preface, results: &Results) -> Result<(), String> {
    let write = |name: &str, text: &str| {
        let path = out.join(name);
        fs::write(&path, text).map_err(|error| format!("{}: {error}", path.display()))
    };
    let raw = report::raw(preface, results).map_err(|error| error.to_string())?;
    write(&format!("{}.json", preface.name), &raw)?;
    write("results.md", &report::document(preface, results))?;
    for outcome in &results.outcomes {
        let name = plot::plot_name(outcome.workload);
        match plot::draw(outcome) {
            Ok(Some(svg)) => write(&name, &svg)?,
            Ok(None) => {}
            Err(error) => return Err(format!("{name}: {error}")),
        }
    }
    Ok(())
}

/// Returns the folder of this program, in which those of the systems are too.
fn own_folder() -> Result<PathBuf, String> {
    let own = std::env::current_exe().map_err(|error| format!("where am I: {error}"))?;
    own.parent()
        .map(Path::to_path_buf)
        .ok_or_else(|| format!("{} is in no folder", own.display()))
}

/// Lets child processes open as many files as the system allows.
fn allow_many_connections() {
    let limit = rustix::process::getrlimit(Resource::Nofile);
    let all = Rlimit {
        current: limit.maximum,
        maximum: limit.maximum,
    };
    // If it is refused, the workloads that need more fail and say so.
    let _ = rustix::process::setrlimit(Resource::Nofile, all);
}
