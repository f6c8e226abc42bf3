//! The command line.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::path::PathBuf;

use lexopt::ValueExt;

use crate::output::one_line;
use crate::system::{self, System};
use crate::workload::table::WORKLOADS;
use crate::workload::{SIZE, Workload};

/// The text of `--help`.
pub(crate) const USAGE: &str = "\
usage: driver [options]

  --only NAME[,NAME]      only these workloads
  --systems NAME[,NAME]   only these of hand, coalescent, npm, gossipsub, iroh
  --sizes N[,N]           only these of the sizes, where a workload has several
  --repetitions N         runs of each system at each value, of which the median is taken (default 5)
  --seconds S             how long each run measures (default 2)
  --quick                 one short run at the first of the values: does all of it work?
  --out DIR               where results are written (default results, beside the suite)
  --name NAME             what the raw results are called (default: the date and time)
  --patience S            wait no longer for a process than this beyond what it measures
  --programs DIR          where the built programs are (default: where this one is)
  --home DIR              the folder of the suite, which has npm in it
  --without NAME=WHY      leave that system out, and say why
  --list                  print the workloads and end
  --needs                 print the parts of the suite that the run needs and end
  --help                  print this and end";

/// What the command line asks for.
#[derive(Debug)]
pub(crate) enum Action {
    /// To run the suite.
    Run(Options),
    /// To print the workloads.
    List(Vec<Planned>),
    /// To print the parts of the suite that have to be built.
    Needs(BTreeSet<&'static str>),
    /// To print the usage.
    Help,
}

/// How to run the suite.
#[derive(Debug, Default)]
pub(crate) struct Options {
    /// The workloads to run.
    pub(crate) plan: Vec<Planned>,
    /// Runs of each system at each value.
    pub(crate) repetitions: u32,
    /// How long a run measures, in seconds.
    pub(crate) seconds: f64,
    /// Whether the run only shows that everything works.
    pub(crate) quick: bool,
    /// `--out`
    pub(crate) out: Option<PathBuf>,
    /// `--name`
    pub(crate) name: Option<String>,
    /// The systems that are known to be missing, and why.
    pub(crate) without: BTreeMap<System, String>,
    /// `--patience`, in seconds.
    pub(crate) patience: Option<f64>,
    /// `--programs`
    pub(crate) programs: Option<PathBuf>,
    /// `--home`
    pub(crate) home: Option<PathBuf>,
}

/// A workload, and the part of it that is run.
#[derive(Debug)]
pub(crate) struct Planned {
    /// The workload.
    pub(crate) workload: &'static Workload,
    /// The systems that take part.
    pub(crate) systems: Vec<System>,
    /// The values of the sweep.
    pub(crate) values: Vec<u64>,
}

/// Reads the arguments after the name of the program. An error is one line.
pub(crate) fn parse(arguments: impl IntoIterator<Item = OsString>) -> Result<Action, String> {
    let mut options = Options::default();
    let mut only = None;
    let mut systems = system::ALL.to_vec();
    let mut sizes = None;
    let mut repetitions = None;
    let mut seconds = None;
    let (mut list, mut needs) = (false, false);

    let mut parser = lexopt::Parser::from_args(arguments);
    while let Some(argument) = parser.next().map_err(text)? {
        let lexopt::Arg::Long(long) = argument else {
            return Err(format!("{} (--help tells more)", argument.unexpected()));
        };
        match long.to_owned().as_str() {
            "only" => only = Some(items(&mut parser, "only")?),
            "systems" => systems = known_systems(&items(&mut parser, "systems")?)?,
            "sizes" => sizes = Some(known_sizes(&items(&mut parser, "sizes")?)?),
            "repetitions" => repetitions = Some(count(&mut parser, "repetitions")?),
            "seconds" => seconds = Some(time(&mut parser, "seconds")?),
            "patience" => options.patience = Some(time(&mut parser, "patience")?),
            "quick" => options.quick = true,
            "out" => options.out = Some(path(&mut parser)?),
            "name" => options.name = Some(file_name(value(&mut parser, "name")?)?),
            "programs" => options.programs = Some(path(&mut parser)?),
            "home" => options.home = Some(path(&mut parser)?),
            "without" => {
                let (system, why) = missing(&value(&mut parser, "without")?)?;
                options.without.insert(system, why);
            }
            "list" => list = true,
            "needs" => needs = true,
            "help" => return Ok(Action::Help),
            other => return Err(format!("there is no option --{other} (--help tells more)")),
        }
    }

    let plan = plan(only.as_deref(), &systems, sizes.as_deref(), options.quick)?;
    if list {
        return Ok(Action::List(plan));
    }
    if needs {
        let systems = plan.iter().flat_map(|planned| &planned.systems);
        let folders = systems.flat_map(|system| system.folders());
        return Ok(Action::Needs(folders.copied().collect()));
    }
    options.plan = plan;
    options.repetitions = repetitions.unwrap_or(if options.quick { 1 } else { 5 });
    options.seconds = seconds.unwrap_or(if options.quick { 0.3 } else { 2.0 });
    Ok(Action::Run(options))
}

/// Returns the workloads to run, at least one.
fn plan(
    only: Option<&[String]>,
    systems: &[System],
    sizes: Option<&[u64]>,
    quick: bool,
) -> Result<Vec<Planned>, String> {
    if let Some(unknown) = only.unwrap_or_default().iter().find(|name| {
        !WORKLOADS
            .iter()
            .any(|workload| workload.name == name.as_str())
    }) {
        return Err(format!(
            "there is no workload {unknown:?} (--list names them)"
        ));
    }
    let wanted = |workload: &&Workload| {
        only.is_none_or(|names| names.iter().any(|name| name == workload.name))
    };
    let plan: Vec<Planned> = WORKLOADS
        .iter()
        .filter(wanted)
        .map(|workload| Planned {
            workload,
            systems: workload
                .systems
                .iter()
                .copied()
                .filter(|system| systems.contains(system))
                .collect(),
            values: values(workload, sizes, quick),
        })
        .filter(|planned| !planned.systems.is_empty() && !planned.values.is_empty())
        .collect();
    if plan.is_empty() {
        return Err("these workloads, systems and sizes have nothing in common".to_owned());
    }
    Ok(plan)
}

fn values(workload: &Workload, sizes: Option<&[u64]>, quick: bool) -> Vec<u64> {
    let sweep = &workload.sweep;
    match sizes {
        Some(sizes) if sweep.of == SIZE => sweep
            .values
            .iter()
            .copied()
            .filter(|size| sizes.contains(size))
            .collect(),
        _ if quick => sweep.quick.to_vec(),
        _ => sweep.values.to_vec(),
    }
}

fn known_systems(names: &[String]) -> Result<Vec<System>, String> {
    names
        .iter()
        .map(|name| {
            let known = system::ALL.iter().map(|system| system.name());
            System::named(name).ok_or_else(|| {
                let known: Vec<_> = known.collect();
                format!("--systems takes {}, not {name:?}", known.join(", "))
            })
        })
        .collect()
}

/// Parses a system, and why it is missing.
fn missing(said: &str) -> Result<(System, String), String> {
    let known = said
        .split_once('=')
        .and_then(|(name, why)| Some((System::named(name)?, one_line(why))));
    known.ok_or_else(|| format!("--without takes a system, '=' and why, not {said:?}"))
}

fn known_sizes(items: &[String]) -> Result<Vec<u64>, String> {
    let known: BTreeSet<u64> = WORKLOADS
        .iter()
        .filter(|workload| workload.sweep.of == SIZE)
        .flat_map(|workload| workload.sweep.values.iter().copied())
        .collect();
    items
        .iter()
        .map(|item| match item.parse() {
            Ok(size) if known.contains(&size) => Ok(size),
            _ => {
                let known: Vec<_> = known.iter().map(u64::to_string).collect();
                Err(format!("--sizes takes {}, not {item:?}", known.join(", ")))
            }
        })
        .collect()
}

fn value(parser: &mut lexopt::Parser, option: &str) -> Result<String, String> {
    parser
        .value()
        .map_err(text)?
        .string()
        .map_err(|_| format!("--{option} takes text"))
}

fn items(parser: &mut lexopt::Parser, option: &str) -> Result<Vec<String>, String> {
    let list = value(parser, option)?;
    let items: Vec<String> = list.split(',').map(str::to_owned).collect();
    if items.iter().any(String::is_empty) {
        return Err(format!(
            "--{option} takes names with commas between, not {list:?}"
        ));
    }
    Ok(items)
}

fn path(parser: &mut lexopt::Parser) -> Result<PathBuf, String> {
    Ok(PathBuf::from(parser.value().map_err(text)?))
}

fn count(parser: &mut lexopt::Parser, option: &str) -> Result<u32, String> {
    let said = value(parser, option)?;
    match said.parse() {
        Ok(number @ 1..=1000) => Ok(number),
        _ => Err(format!("--{option} takes 1 to 1000, not {said:?}")),
    }
}

fn time(parser: &mut lexopt::Parser, option: &str) -> Result<f64, String> {
    let said = value(parser, option)?;
    match said.parse::<f64>() {
        Ok(seconds) if (0.1..=600.0).contains(&seconds) => Ok(seconds),
        _ => Err(format!("--{option} takes 0.1 to 600 seconds, not {said:?}")),
    }
}

/// Checks that a name stays in its folder.
fn file_name(name: String) -> Result<String, String> {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    if name.is_empty() || name.starts_with('.') || !name.chars().all(plain) {
        return Err(format!(
            "--name takes letters, digits, '-', '_' and '.', not {name:?}"
        ));
    }
    Ok(name)
}

fn text(error: lexopt::Error) -> String {
    error.to_string()
}

#[cfg(test)]
#[path = "options_tests.rs"]
mod tests;
