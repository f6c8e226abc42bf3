use super::*;

fn shell(script: &str) -> Result<Process, Cause> {
    let mut command = Command::new("sh");
    command.args(["-c", script]);
    Process::start(command, &Arc::default())
}

const LONG: Duration = Duration::from_secs(30);
const SHORT: Duration = Duration::from_millis(200);

fn gone(pid: u32) -> bool {
    !std::path::Path::new(&format!("/proc/{pid}")).exists()
}

#[test]
fn a_process_is_heard_and_ends_with_its_stdin() -> Result<(), Cause> {
    let mut process = shell("echo '{\"listening\":\"here\"}'; cat; echo '{\"peers\":9}'")?;
    let object = process.object("address", LONG, None)?;
    assert_eq!(object["listening"], "here");
    let ended = process.end(LONG)?;
    assert_eq!(ended.result.unwrap_or_default()["peers"], 9);
    assert!(ended.usage.wall_seconds > 0.0);
    assert!(ended.usage.peak_rss_bytes > 0);
    Ok(())
}

#[test]
fn a_crash_is_told_with_its_last_words() -> Result<(), Cause> {
    let mut process = shell("echo first >&2; echo 'port in use' >&2; exit 3")?;
    let cause = process.object("address", LONG, None).map(|_| ());
    let said = cause.map_or_else(|cause| cause.to_string(), |()| String::new());
    assert_eq!(said, "exit status 3: port in use");
    Ok(())
}

#[test]
fn silence_has_a_limit_and_leaves_nothing() -> Result<(), Cause> {
    let mut process = shell("sleep 1000 & echo $! >&2; wait")?;
    let cause = process.object("address", SHORT, None).map(|_| ());
    let said = cause.map_or_else(|cause| cause.to_string(), |()| String::new());
    assert!(said.starts_with("no address within 0.2 s: "), "{said}");
    let (leader, follower) = (process.id(), said.rsplit(' ').next().unwrap_or(""));
    let follower = follower.parse().unwrap_or(leader);
    assert_ne!(leader, follower);
    drop(process);
    assert!(gone(leader));
    let asked = Instant::now();
    while !gone(follower) && asked.elapsed() < LONG {
        thread::sleep(TICK);
    }
    assert!(gone(follower));
    Ok(())
}

#[test]
fn a_process_that_does_not_end_is_killed() -> Result<(), Cause> {
    let process = shell("exec sleep 1000")?;
    let pid = process.id();
    let cause = process.end(SHORT);
    assert!(matches!(cause, Err(Cause::Late { .. })), "{cause:?}");
    assert!(gone(pid));
    Ok(())
}

#[test]
fn an_interruption_ends_the_wait() -> Result<(), Cause> {
    let interrupted = Arc::new(AtomicBool::new(true));
    let mut command = Command::new("sleep");
    command.arg("1000");
    let mut process = Process::start(command, &interrupted)?;
    let cause = process.object("address", LONG, None);
    assert!(matches!(cause, Err(Cause::Interrupted)), "{cause:?}");
    Ok(())
}

#[test]
fn the_cpu_time_of_a_busy_process_is_seen() -> Result<(), Cause> {
    let process = shell("i=0; while [ $i -lt 200000 ]; do i=$((i+1)); done")?;
    let ended = process.end(LONG)?;
    assert!(ended.usage.user_seconds > 0.0, "{:?}", ended.usage);
    Ok(())
}
