use super::*;

fn options(arguments: &str) -> Result<Action, String> {
    parse(arguments.split_whitespace().map(OsString::from))
}

fn run(arguments: &str) -> Options {
    match options(arguments) {
        Ok(Action::Run(options)) => options,
        other => panic!("{arguments}: {other:?}"),
    }
}

fn said(arguments: &str) -> String {
    match options(arguments) {
        Err(said) => said,
        other => panic!("{arguments}: {other:?}"),
    }
}

#[test]
fn all_workloads_run_by_default() {
    let options = run("");
    assert_eq!(options.plan.len(), WORKLOADS.len());
    assert_eq!((options.repetitions, options.seconds), (5, 2.0));
    for planned in &options.plan {
        assert_eq!(planned.systems, planned.workload.systems);
        assert_eq!(planned.values, planned.workload.sweep.values);
    }
}

#[test]
fn workloads_systems_and_sizes_can_be_selected() {
    let options = run("--only hub-tattletale,fan-out --systems npm,hand --sizes 65536,64");
    let [hub, fan_out] = options.plan.as_slice() else {
        panic!("{:?}", options.plan);
    };
    assert_eq!(hub.workload.name, "hub-tattletale");
    assert_eq!(hub.systems, [System::Hand, System::Npm]);
    assert_eq!(hub.values, [64, 65536]);
    assert_eq!(fan_out.values, fan_out.workload.sweep.values);
}

#[test]
fn a_quick_run_is_short_by_default() {
    let options = run("--quick");
    assert_eq!((options.repetitions, options.seconds), (1, 0.3));
    assert_eq!(options.plan[0].values, [64]);
    let options = run("--quick --seconds 1 --repetitions 2 --sizes 1024");
    assert_eq!((options.repetitions, options.seconds), (2, 1.0));
    assert_eq!(options.plan[0].values, [1024]);
}

#[test]
fn a_system_can_be_left_out() {
    let options = run("--without iroh=broken --without npm=a=b");
    let expected = [(System::Npm, "a=b".into()), (System::Iroh, "broken".into())];
    assert_eq!(options.without, BTreeMap::from(expected));
}

#[test]
fn an_invalid_option_is_reported_in_one_line() {
    for (arguments, expected) in [
        ("--frob", "no option --frob"),
        ("extra", "extra"),
        ("--only", "--only"),
        ("--only hub", "no workload \"hub\""),
        ("--only a,,b", "commas"),
        ("--systems rust", "not \"rust\""),
        ("--sizes 65", "64, 1024, 65536"),
        ("--repetitions 0", "1 to 1000"),
        ("--repetitions many", "1 to 1000"),
        ("--seconds 0", "0.1 to 600"),
        ("--seconds nan", "0.1 to 600"),
        ("--patience -1", "0.1 to 600"),
        ("--without rust=why", "a system"),
        ("--without iroh", "a system"),
        ("--name ../x", "not \"../x\""),
        ("--quick=yes", "--quick"),
        ("--only mesh --systems npm", "nothing in common"),
    ] {
        let said = said(arguments);
        assert!(said.contains(expected), "{arguments}: {said}");
        assert!(!said.contains('\n'), "{arguments}: {said}");
    }
}

#[test]
fn needs_names_the_folders_of_the_selected_systems() {
    let needs = |arguments: &str| match options(arguments) {
        Ok(Action::Needs(folders)) => folders.into_iter().collect::<Vec<_>>().join(" "),
        other => panic!("{arguments}: {other:?}"),
    };
    assert_eq!(needs("--needs"), "gossipsub iroh native npm");
    assert_eq!(needs("--needs --systems hand"), "native");
    assert_eq!(needs("--needs --systems npm"), "native npm");
    assert_eq!(needs("--needs --only one-hop"), "native");
}
