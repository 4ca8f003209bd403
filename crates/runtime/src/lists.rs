//! Operator state: named lists that a subtask keeps without a key, and what becomes of them at another parallelism.
//!
//! In the manifest they are JSON, readable and evolvable by field name; so what JSON cannot say (a float that is no number,
//! a map whose keys are no text) cannot be kept. A **split** list is divided entry by entry among the new subtasks; a
//! **union** list goes to each of them whole. Which one it is shows in the name it is stored by.
//! Non-goal: state by key (`rivermark-state`), which is not bounded by what fits into a manifest.

use crate::operator::{Lists, SubtaskInfo};
use rivermark_data::Data;
use rivermark_types::{Failure, Result};
use serde_json::Value;
use std::any::type_name;
use std::cell::{Ref, RefCell, RefMut};
use std::fmt::Display;
use std::rc::Rc;

/// What the stored name of a union list begins with.
const UNION: &str = "union:";

/// Whether every subtask gets the entries of all when a list of this stored name is restored, at whatever parallelism. All
/// others are divided, or given back to whom they were of if the parallelism is the same.
pub fn is_union_list(stored_name: &str) -> bool {
    stored_name.starts_with(UNION)
}

/// The stored name of a union list.
pub(crate) fn union_name(name: &str) -> String {
    format!("{UNION}{name}")
}

/// A list of one subtask, as part of every snapshot. Made by `open`; one that was not is a mistake in the operator.
#[derive(Debug)]
pub struct OperatorList<T>(Option<Rc<RefCell<Vec<T>>>>);

impl<T> Default for OperatorList<T> {
    fn default() -> Self {
        OperatorList(None)
    }
}

impl<T> OperatorList<T> {
    /// The entries. Behind a restore these are this subtask's share, or all if it is a union list.
    #[inline]
    pub fn get(&self) -> Ref<'_, Vec<T>> {
        self.cell().borrow()
    }

    /// The entries, to be changed.
    #[inline]
    pub fn update(&mut self) -> RefMut<'_, Vec<T>> {
        self.cell().borrow_mut()
    }

    /// Appends an entry.
    pub fn push(&mut self, entry: T) {
        self.update().push(entry);
    }

    /// Removes all entries and gives them.
    pub fn take(&mut self) -> Vec<T> {
        std::mem::take(&mut *self.update())
    }

    #[inline(always)]
    fn cell(&self) -> &RefCell<Vec<T>> {
        match &self.0 {
            Some(cell) => cell,
            None => undeclared(),
        }
    }
}

#[cold]
#[inline(never)]
fn undeclared() -> ! {
    panic!(
        "a list was used that `open` did not declare: keep there what `cx.list_state(..)` or `cx.union_list_state(..)` returns"
    )
}

/// A list as the task sees it.
trait Stored {
    fn entries(&self) -> serde_json::Result<Vec<Value>>;
}

impl<T: Data> Stored for RefCell<Vec<T>> {
    fn entries(&self) -> serde_json::Result<Vec<Value>> {
        self.borrow().iter().map(serde_json::to_value).collect()
    }
}

/// The task's side of an operator's lists.
#[derive(Default)]
pub(crate) struct OperatorLists(Vec<(String, Rc<dyn Stored>)>);

impl OperatorLists {
    /// An operator declares a list by its stored name; what was restored of it is taken out of `restored`.
    pub(crate) fn declare<T: Data>(
        &mut self,
        stored_name: String,
        restored: &mut Lists,
        info: &SubtaskInfo,
    ) -> Result<OperatorList<T>> {
        let operator = &info.name;
        if info.uid.is_none() {
            return Err(Failure::invalid(format!(
                "operator {operator} keeps the list {stored_name:?} but has no uid: add .uid(\"{operator}-1\") after it"
            )));
        }
        if self.0.iter().any(|(name, _)| *name == stored_name) {
            return Err(Failure::invalid(format!(
                "operator {operator} declares two lists {stored_name:?}: give one of them another name"
            )));
        }
        let entries = restored.remove(&stored_name).unwrap_or_default();
        let cell = Rc::new(RefCell::new(decode(&stored_name, entries, info)?));
        self.0.push((stored_name, cell.clone()));
        Ok(OperatorList(Some(cell)))
    }

    /// All lists that have entries.
    pub(crate) fn snapshot(&self) -> Result<Lists> {
        let mut lists = Lists::new();
        for (name, list) in &self.0 {
            let entries = list.entries().map_err(|error| unwritable(name, &error))?;
            if !entries.is_empty() {
                lists.insert(name.clone(), entries);
            }
        }
        Ok(lists)
    }
}

/// The entries of a restored list.
pub(crate) fn decode<T: Data>(name: &str, entries: Vec<Value>, info: &SubtaskInfo) -> Result<Vec<T>> {
    let unreadable = |error: serde_json::Error| {
        Failure::invalid(format!(
            "the checkpoint has an entry in list {name:?} of operator {} that cannot be read as {}: {error}; keep the type \
             readable, or give the operator a new uid",
            info.name,
            type_name::<T>()
        ))
    };
    let entries = entries.into_iter().map(serde_json::from_value);
    entries.map(|entry| entry.map_err(unreadable)).collect()
}

/// An entry that JSON cannot say.
pub(crate) fn unwritable(name: &str, error: &dyn Display) -> Failure {
    Failure::invalid(format!(
        "an entry of list {name:?} cannot be written as JSON: {error}; keep it in a form that JSON has"
    ))
}
