//! The operator under test, made afresh for every case.

use rivermark_runtime::{Operator, OperatorFactory};
use std::any::type_name;
use std::fmt::Debug;
use std::sync::Arc;

/// A factory of the operator under test, and the world outside that its instances write to, if they do. Restored instances
/// come from the same subject as the ones they follow; every case gets a subject of its own.
pub struct Subject {
    pub(crate) name: &'static str,
    pub(crate) factory: Arc<dyn OperatorFactory>,
    pub(crate) outside: Option<Box<dyn Fn() -> Vec<String>>>,
}

impl Subject {
    /// An operator that this closure makes.
    pub fn operator<O: Operator + 'static>(make: impl Fn() -> O + Send + Sync + 'static) -> Subject {
        let full = type_name::<O>();
        let path = full.split('<').next().unwrap_or(full);
        let name = path.rsplit("::").next().unwrap_or(path);
        Subject::made_by(name, move || Ok(Box::new(make()) as Box<dyn Operator>))
    }

    /// An operator that this factory makes, with its name.
    pub fn made_by(name: &'static str, factory: impl OperatorFactory + 'static) -> Subject {
        Subject {
            name,
            factory: Arc::new(factory),
            outside: None,
        }
    }

    /// Has an effect outside: the rows that `look` finds there at the end of a case are output too, compared with
    /// [`crate::Verification::expect_outside`].
    pub fn observed_by<T: Debug>(mut self, look: impl Fn() -> Vec<T> + 'static) -> Subject {
        self.outside = Some(Box::new(move || {
            look().iter().map(|row| format!("{row:?}")).collect()
        }));
        self
    }
}
