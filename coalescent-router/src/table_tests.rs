use std::collections::BTreeMap;

use coalescent_core::test_util;
use coalescent_core::wire::Kind;
use proptest::prelude::*;

use super::*;
use crate::extract::State;

/// Creates a distinct endpoint, which compares as the same only with its clones.
fn endpoint() -> Endpoint<()> {
    Endpoint::handler(())
}

/// Short types and prefixes over a small alphabet, so that they collide.
fn short() -> impl Strategy<Value = String> {
    "[ab/]{0,4}"
}

#[derive(Clone, Debug)]
enum Change {
    Route(String),
    Fallback(String),
    Remove(String),
}

fn changes() -> impl Strategy<Value = Vec<Change>> {
    let change = prop_oneof![
        short().prop_map(Change::Route),
        short().prop_map(Change::Fallback),
        short().prop_map(Change::Remove),
    ];
    prop::collection::vec(change, 0..24)
}

/// A simple model of the table that follows the documented lookup.
#[derive(Clone, Default)]
struct Model {
    routes: BTreeMap<String, Endpoint<()>>,
    fallbacks: BTreeMap<String, Endpoint<()>>,
}

impl Model {
    fn find(&self, kind: &str) -> Option<&Endpoint<()>> {
        let prefixes = (0..=kind.len()).rev().map(|end| &kind[..end]);
        self.routes.get(kind).or_else(|| {
            prefixes
                .into_iter()
                .find_map(|prefix| self.fallbacks.get(prefix))
        })
    }

    /// Applies a change; returns whether it had an effect.
    fn apply(&mut self, change: &Change, endpoint: &Endpoint<()>) -> bool {
        let (map, key) = match change {
            Change::Route(kind) => (&mut self.routes, kind),
            Change::Fallback(prefix) => (&mut self.fallbacks, prefix),
            Change::Remove(kind) => return self.routes.remove(kind).is_some(),
        };
        let free = !map.contains_key(key);
        map.entry(key.clone()).or_insert_with(|| endpoint.clone());
        free
    }
}

fn apply(table: &mut Table<()>, change: &Change, endpoint: &Endpoint<()>) -> bool {
    match change {
        Change::Route(kind) => table.insert(kind, endpoint.clone()).is_ok(),
        Change::Fallback(prefix) => table.insert_fallback(prefix, endpoint.clone()).is_ok(),
        Change::Remove(kind) => table.remove(kind),
    }
}

fn build(changes: &[Change]) -> (Table<()>, Model) {
    let mut table = Table::default();
    let mut model = Model::default();
    for change in changes {
        let endpoint = endpoint();
        assert_eq!(
            apply(&mut table, change, &endpoint),
            model.apply(change, &endpoint),
            "{change:?}"
        );
    }
    (table, model)
}

fn assert_same(table: &Table<()>, model: &Model, kind: &str) {
    match (table.find(kind.as_bytes()), model.find(kind)) {
        (None, None) => {}
        (Some(found), Some(expected)) => assert!(found.is(expected), "another for {kind:?}"),
        (found, _) => panic!("{kind:?}: found: {}", found.is_some()),
    }
}

proptest! {
    #[test]
    fn a_type_finds_its_route_else_the_longest_prefix(
        changes in changes(),
        kinds in prop::collection::vec(short(), 1..8),
    ) {
        let (table, model) = build(&changes);
        for kind in kinds {
            assert_same(&table, &model, &kind);
        }
    }

    #[test]
    fn merging_adds_all_with_the_prefix_or_nothing(
        ours in changes(),
        theirs in changes(),
        prefix in short(),
        kinds in prop::collection::vec("[ab/]{0,6}", 1..8),
    ) {
        let (mut table, mut model) = build(&ours);
        let (other, added) = build(&theirs);
        let put = |key: &String| format!("{prefix}{key}");
        let free = !added.routes.keys().any(|kind| model.routes.contains_key(&put(kind)))
            && !added.fallbacks.keys().any(|kind| model.fallbacks.contains_key(&put(kind)));
        prop_assert_eq!(table.merge(&prefix, &other).is_ok(), free);
        if free {
            model.routes.extend(added.routes.iter().map(|(k, e)| (put(k), e.clone())));
            model.fallbacks.extend(added.fallbacks.iter().map(|(k, e)| (put(k), e.clone())));
        }
        for kind in kinds {
            assert_same(&table, &model, &kind);
        }
    }
}

#[test]
fn the_table_is_copied_only_for_those_who_route_by_it() {
    let live = LiveTable::<()>::new(Arc::default());
    let before = Arc::as_ptr(&live.table());
    live.change(|table| table.insert("a", endpoint())).unwrap();
    assert_eq!(Arc::as_ptr(&live.table()), before);

    let (kept, generation) = (live.table(), live.generation());
    live.change(|table| table.insert("b", endpoint())).unwrap();
    assert_ne!(live.generation(), generation);
    assert!(kept.find(b"b").is_none(), "a table in use does not change");
    assert!(live.table().find(b"b").is_some());
}

#[tokio::test]
async fn an_endpoint_is_built_once_with_its_state() {
    let built = Arc::new(AtomicU64::new(0));
    let counted = Arc::clone(&built);
    let layer = tower_layer::layer_fn(move |route: crate::Route| {
        counted.fetch_add(1, Ordering::Relaxed);
        route
    });
    let number = |State(number): State<u8>| async move { ("number", number) };
    let endpoint: Endpoint<()> = Endpoint::<u8>::handler(number)
        .layer(&Arc::new(layer))
        .with_state(7);
    for _ in 0..3 {
        let frame = test_util::frame(Kind::Data, "");
        let reply = endpoint.clone().handle(frame).await.unwrap();
        assert!(
            matches!(reply, coalescent_core::Reply::Message(m) if m.body::<u8>().unwrap() == 7)
        );
    }
    assert_eq!(built.load(Ordering::Relaxed), 1);
}
