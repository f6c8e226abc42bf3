//! What a plugin is.

use crate::app::registrar::Registrar;

/// A part of an app that is applied once, when it is registered. The original's `_plugin`.
///
/// Every middleware of this project is a plugin, so that [`AppExt::with`](crate::AppExt::with) can
/// apply it and add it as a layer in one step. [`register`](Plugin::register) does nothing by
/// default: a layer that needs nothing else of the app implements this trait with an empty `impl`.
///
/// ```
/// use coalescent::{Plugin, Registrar};
///
/// struct Greeter;
///
/// impl Plugin for Greeter {
///     fn register(&self, app: &mut Registrar) {
///         app.on_connect(|peer| async move { println!("hello, {}", peer.id()) });
///     }
/// }
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be registered with an app",
    label = "not a `Plugin`",
    note = "a layer that is no plugin, such as those of tower, is added with `.layer(..)`",
    note = "a type of your own becomes a plugin with `impl Plugin for ..`",
    note = "a router whose handlers need a state must be given it first, with `.with_state(..)`"
)]
pub trait Plugin {
    /// Adds hooks, shared values and background tasks to the app. By default it adds nothing.
    fn register(&self, app: &mut Registrar) {
        let _ = app;
    }
}

#[diagnostic::do_not_recommend]
impl<P: Plugin> Plugin for Option<P> {
    fn register(&self, app: &mut Registrar) {
        match self {
            Some(plugin) => plugin.register(app),
            // Nor is it missed if its type is in the stack, as that of an optional layer.
            None => {
                app.registered::<P>();
            }
        }
    }
}

#[diagnostic::do_not_recommend]
impl<P: Plugin + ?Sized> Plugin for &P {
    fn register(&self, app: &mut Registrar) {
        (**self).register(app);
    }
}

#[diagnostic::do_not_recommend]
impl<P: Plugin + ?Sized> Plugin for Box<P> {
    fn register(&self, app: &mut Registrar) {
        (**self).register(app);
    }
}

#[diagnostic::do_not_recommend]
impl<P: Plugin + ?Sized> Plugin for std::sync::Arc<P> {
    fn register(&self, app: &mut Registrar) {
        (**self).register(app);
    }
}
