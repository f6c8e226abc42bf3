//! Routes that cannot be: the panic is at the line that adds them, and says what to do.
//!
//! A binary of its own: the tests replace the panic hook of the process, and would see the panics
//! of other tests.

use std::panic::{self, AssertUnwindSafe, PanicHookInfo};
use std::sync::{Mutex, PoisonError};

use coalescent_router::Router;

/// The hook belongs to the process.
static HOOK: Mutex<()> = Mutex::new(());

/// What `build` panics with, and whether it does so in this file.
fn panics(build: impl FnOnce() -> Router) -> String {
    static SEEN: Mutex<Option<(String, String)>> = Mutex::new(None);
    let _hook = HOOK.lock().unwrap_or_else(PoisonError::into_inner);
    let before = panic::take_hook();
    panic::set_hook(Box::new(|info: &PanicHookInfo<'_>| {
        let file = info.location().unwrap().file().to_owned();
        let text = info
            .payload()
            .downcast_ref::<&str>()
            .map(|text| (*text).to_owned());
        let text = text.or_else(|| info.payload().downcast_ref::<String>().cloned());
        let text = text.unwrap_or_default();
        *SEEN.lock().unwrap() = Some((file, text));
    }));
    let result = panic::catch_unwind(AssertUnwindSafe(build));
    panic::set_hook(before);
    assert!(result.is_err());
    let (file, text) = SEEN.lock().unwrap().take().unwrap();
    assert_eq!(file, file!(), "not at the caller: {text}");
    text
}

fn router() -> Router {
    Router::new()
}

#[test]
fn a_route_twice() {
    let text = panics(|| router().route("ping", ()).route("ping", ()));
    assert!(
        text.contains("\"ping\"") && text.contains("remove one"),
        "{text}"
    );
}

#[test]
fn a_fallback_twice() {
    for build in [
        || router().fallback(()).fallback(()),
        || router().fallback(()).route("*", ()),
        || router().route("*", ()).merge(Router::new().fallback(())),
    ] {
        let text = panics(build);
        assert!(
            text.contains("a fallback") && text.contains("remove one"),
            "{text}"
        );
    }
}

#[test]
fn a_route_of_both_of_two_routers() {
    let one = router().route("a", ()).route("b", ());
    let other = router().route("c", ()).route("b", ());
    let text = panics(|| one.merge(other));
    assert!(text.contains("\"b\""), "{text}");
    let text = panics(|| {
        router()
            .route("x/b", ())
            .nest("x/", router().route("b", ()))
    });
    assert!(text.contains("\"x/b\""), "{text}");
    let text = panics(|| {
        router()
            .nest("x/", router().fallback(()))
            .nest("x/", router().fallback(()))
    });
    assert!(text.contains("\"x/\""), "{text}");
}

#[test]
fn an_empty_prefix() {
    let text = panics(|| router().nest("", router()));
    assert!(text.contains("`merge`"), "{text}");
}

#[test]
fn a_layer_around_nothing() {
    let text = panics(|| router().layer(tower_layer::Identity::new()));
    assert!(text.contains("first"), "{text}");
    let text = panics(|| {
        router()
            .fallback(())
            .route_layer(tower_layer::Identity::new())
    });
    assert!(text.contains("first"), "{text}");
}
