//! When windows fire and what they forget, as one choice: it decides which core keeps them.

use super::assign::WindowsOf;
use super::{
    AlignedWindows, Contents, Evicted, Evictor, Global, InProcessingTime, Lateness, Session, Sliding,
    Trigger, TriggeredWindows, Tumbling, WindowCore, WindowsOperator,
};
use crate::operator::Operator;
use rivermark_data::Key as KeyType;

/// Makes windows of `W` that hold `C`.
#[diagnostic::on_unimplemented(
    message = "windows of type `{W}` cannot hold `{C}`",
    note = "sessions merge when a row closes the gap between two: use `.fold_merging(add, merge, finish)`, `.reduce(..)`, \
            `.process(..)`, or an aggregate that implements `MergeAggregate`",
    note = "an assigner of one's own needs a trigger: `.trigger(EventTime)`"
)]
pub trait Firing<K: KeyType, W, C: Contents<K>>: Clone + Send + Sync + 'static {
    /// What keeps them.
    type Windows: WindowCore<K, Input = C::Input, Output = C::Output>;

    /// The windows of an operator.
    fn windows(&self, windows: W, contents: C, lateness: Lateness) -> Self::Windows;

    /// An operator with one input.
    fn operator<F>(&self, select: F, windows: W, contents: C, lateness: Lateness) -> Box<dyn Operator>
    where
        F: Fn(&C::Input) -> K + 'static,
    {
        let windows = self.windows(windows, contents, lateness);
        Box::new(WindowsOperator::new(select, windows))
    }
}

/// At the window's end, and again for each late row that is allowed; nothing is forgotten before. It is a trigger too, for
/// windows of either time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AtEnd;

/// When a trigger says so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct On<Tr>(pub Tr);

/// When a trigger says so, and an evictor says what is forgotten then.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Evicting<Tr, E>(pub Tr, pub E);

impl<K: KeyType, C: Contents<K>> Firing<K, Tumbling, C> for AtEnd {
    type Windows = AlignedWindows<K, Tumbling, C>;
    fn windows(&self, windows: Tumbling, contents: C, lateness: Lateness) -> Self::Windows {
        AlignedWindows::new(windows, contents, lateness)
    }
    fn operator<F>(&self, select: F, windows: Tumbling, contents: C, lateness: Lateness) -> Box<dyn Operator>
    where
        F: Fn(&C::Input) -> K + 'static,
    {
        match lateness.keeps() {
            false => contents.tumbling(select, windows, lateness.rows),
            true => Box::new(WindowsOperator::new(
                select,
                self.windows(windows, contents, lateness),
            )),
        }
    }
}

impl<K: KeyType, C: Contents<K>> Firing<K, Sliding, C> for AtEnd {
    type Windows = AlignedWindows<K, Sliding, C>;
    fn windows(&self, windows: Sliding, contents: C, lateness: Lateness) -> Self::Windows {
        AlignedWindows::new(windows, contents, lateness)
    }
}

impl<K: KeyType, C: Contents<K>, G> Firing<K, Session<G>, C> for AtEnd
where
    Session<G>: WindowsOf<K, C>,
{
    type Windows = TriggeredWindows<K, Session<G>, AtEnd, C>;
    fn windows(&self, windows: Session<G>, contents: C, lateness: Lateness) -> Self::Windows {
        TriggeredWindows::new(windows, AtEnd, contents, lateness)
    }
}

impl<K: KeyType, C: Contents<K>> Firing<K, Global, C> for AtEnd {
    type Windows = TriggeredWindows<K, Global, AtEnd, C>;
    fn windows(&self, windows: Global, contents: C, lateness: Lateness) -> Self::Windows {
        TriggeredWindows::new(windows, AtEnd, contents, lateness)
    }
}

impl<K: KeyType, C: Contents<K>, W> Firing<K, InProcessingTime<W>, C> for AtEnd
where
    InProcessingTime<W>: WindowsOf<K, C>,
{
    type Windows = TriggeredWindows<K, InProcessingTime<W>, AtEnd, C>;
    fn windows(&self, windows: InProcessingTime<W>, contents: C, lateness: Lateness) -> Self::Windows {
        TriggeredWindows::new(windows, AtEnd, contents, lateness)
    }
}

impl<K: KeyType, W: WindowsOf<K, C>, Tr: Trigger<C::Input>, C: Contents<K>> Firing<K, W, C> for On<Tr> {
    type Windows = TriggeredWindows<K, W, Tr, C>;
    fn windows(&self, windows: W, contents: C, lateness: Lateness) -> Self::Windows {
        TriggeredWindows::new(windows, self.0.clone(), contents, lateness)
    }
}

impl<K, W, Tr, E, C> Firing<K, W, C> for Evicting<Tr, E>
where
    K: KeyType,
    W: WindowsOf<K, Evicted<C, E>>,
    Tr: Trigger<C::Input>,
    E: Evictor<C::Input>,
    C: Contents<K>,
{
    type Windows = TriggeredWindows<K, W, Tr, Evicted<C, E>>;
    fn windows(&self, windows: W, contents: C, lateness: Lateness) -> Self::Windows {
        let contents = Evicted::new(contents, self.1.clone());
        TriggeredWindows::new(windows, self.0.clone(), contents, lateness)
    }
}
