//! Streams without keys: operator lists, union lists, two connected streams, and every partitioner.

use super::processing_timers::same_sums;
use super::{Part, all_rows, same};
use crate::Draw;
use crate::scenario::job::Builder;
use crate::scenario::plan::Scenario;
use crate::scenario::rows::{Input, Output};
use rivermark_stream::{
    DataStream, Failure, OperatorList, Out, ProcessOp, ProcessOp2, ProcessOpenCx, Result, Timed,
};

/// How rows get to the operators that keep them.
#[derive(Clone, Copy, Debug)]
enum By {
    Rebalance,
    Rescale,
    Shuffle,
    Global,
    Forward,
    /// To everybody, who lets pass what a key's subtask would have got.
    Broadcast,
}

/// What keeps the rows.
#[derive(Clone, Copy, Debug)]
enum Kept {
    /// Sums of whatever rows a subtask gets, in a split list; summed up again by one that gets all.
    Split,
    /// Sums of the keys that a subtask has, in a union list; a partitioner of ours divides the keys.
    Union,
    /// Two streams side by side, the rows of the second kept until the end.
    Connected,
}

/// Sums and counts per key.
#[derive(Debug)]
struct Sums {
    by: By,
    kept: Kept,
}

pub(super) fn draw(draw: &mut Draw) -> Box<dyn Part> {
    let by = [
        By::Rebalance,
        By::Rescale,
        By::Shuffle,
        By::Global,
        By::Forward,
        By::Broadcast,
    ];
    let kept = [Kept::Split, Kept::Union, Kept::Connected];
    Box::new(Sums {
        by: by[draw.index(by.len())],
        kept: kept[draw.index(kept.len())],
    })
}

/// A sum of a key as a list has it.
type Entry = (u32, i64, u64);

/// Which rows a subtask may get.
#[derive(Clone, Copy, PartialEq)]
enum Own {
    Any,
    /// All to the first subtask.
    First,
    /// By the rest of the key.
    Keys,
}

/// Keeps sums per key; tells them at the end.
struct Keep {
    own: Own,
    index: u32,
    parallelism: u32,
    list: OperatorList<Entry>,
}

impl Keep {
    fn of(own: Own) -> Keep {
        Keep {
            own,
            index: 0,
            parallelism: 1,
            list: OperatorList::default(),
        }
    }

    fn owns(&self, key: u32) -> bool {
        match self.own {
            Own::Any => true,
            Own::First => self.index == 0,
            Own::Keys => key % self.parallelism == self.index,
        }
    }
}

impl ProcessOp<Output, Output> for Keep {
    fn open(&mut self, cx: &mut ProcessOpenCx<'_>) -> Result<()> {
        (self.index, self.parallelism) = (cx.info().subtask.index, cx.info().parallelism);
        if self.own == Own::Keys {
            self.list = cx.union_list_state("sums")?;
            let mut list = self.list.take();
            list.retain(|(key, ..)| self.owns(*key));
            *self.list.update() = list;
        } else {
            self.list = cx.list_state("sums")?;
        }
        Ok(())
    }

    fn row(&mut self, row: Timed<Output>, _: &mut Out<Output>) -> Result<()> {
        if !self.owns(row.value.key) {
            let (row, index) = (row.value, self.index);
            return Err(Failure::bug(format!("{row:?} came to subtask {index}")));
        }
        let Output { key, sum, count, .. } = row.value;
        let mut list = self.list.update();
        match list.iter_mut().find(|(other, ..)| *other == key) {
            Some(entry) => *entry = (key, entry.1 + sum, entry.2 + count),
            None => list.push((key, sum, count)),
        }
        Ok(())
    }

    fn on_end(&mut self, out: &mut Out<Output>) -> Result<()> {
        let output = |(key, sum, count)| Output {
            key,
            time: 0,
            sum,
            count,
        };
        self.list
            .take()
            .into_iter()
            .for_each(|entry| out.emit(output(entry)));
        Ok(())
    }
}

/// Lets pass the rows of its own keys.
#[derive(Default)]
struct Sieve {
    index: u32,
    parallelism: u32,
}

impl ProcessOp<Output, Output> for Sieve {
    fn open(&mut self, cx: &mut ProcessOpenCx<'_>) -> Result<()> {
        (self.index, self.parallelism) = (cx.info().subtask.index, cx.info().parallelism);
        Ok(())
    }
    fn row(&mut self, row: Timed<Output>, out: &mut Out<Output>) -> Result<()> {
        if row.value.key % self.parallelism == self.index {
            out.emit(row.value);
        }
        Ok(())
    }
}

/// Rows of the left at once, those of the right at the end.
#[derive(Default)]
struct Later(OperatorList<Output>);

impl ProcessOp2<Output, Input, Output> for Later {
    fn open(&mut self, cx: &mut ProcessOpenCx<'_>) -> Result<()> {
        self.0 = cx.list_state("later")?;
        Ok(())
    }
    fn left(&mut self, row: Timed<Output>, out: &mut Out<Output>) -> Result<()> {
        out.emit(row.value);
        Ok(())
    }
    fn right(&mut self, row: Timed<Input>, _: &mut Out<Output>) -> Result<()> {
        // As many as a manifest should have.
        if row.value.id.is_multiple_of(16) {
            self.0.push(one(row.value));
        }
        Ok(())
    }
    fn on_end(&mut self, out: &mut Out<Output>) -> Result<()> {
        self.0.take().into_iter().for_each(|row| out.emit(row));
        Ok(())
    }
}

fn one(row: Input) -> Output {
    Output {
        key: row.key,
        time: 0,
        sum: row.value,
        count: 1,
    }
}

impl Part for Sums {
    fn build(&self, builder: &Builder<'_>) -> DataStream<Output> {
        let (source, places) = (builder.source(0), builder.parallelism(0));
        let source = source.map(one).set_parallelism(places);
        let dealt = match self.by {
            By::Rebalance => source.rebalance(),
            By::Rescale => source.rescale(),
            By::Shuffle => source.shuffle(),
            By::Global => source.global(),
            By::Forward => source.forward(),
            By::Broadcast => {
                let own = source.broadcast().process(Sieve::default).uid("own");
                own.set_parallelism(builder.parallelism(2))
            }
        };
        let parallelism = match self.by {
            By::Forward => places,
            _ => builder.parallelism(3),
        };
        match self.kept {
            Kept::Split => {
                let by = match self.by {
                    By::Global => Own::First,
                    _ => Own::Any,
                };
                let parts = dealt.process(move || Keep::of(by)).uid("parts");
                let parts = parts.set_parallelism(parallelism).global();
                let sums = parts.process(|| Keep::of(Own::First)).uid("sums");
                sums.set_parallelism(builder.parallelism(4))
            }
            Kept::Union => {
                let passed = dealt.map(|row| row).set_parallelism(parallelism);
                let by_key = passed.partition_custom(|key, subtasks| key % subtasks, |row| row.key);
                let sums = by_key.process(|| Keep::of(Own::Keys)).uid("sums");
                sums.set_parallelism(builder.parallelism(4))
            }
            Kept::Connected => {
                let both = dealt.connect(builder.source(1)).process(Later::default);
                both.uid("both").set_parallelism(parallelism)
            }
        }
    }

    fn check(&self, scenario: &Scenario, found: &[Output]) -> std::result::Result<(), String> {
        if let Kept::Connected = self.kept {
            let right = scenario.rows[1].iter().filter(|row| row.id.is_multiple_of(16));
            return same(
                scenario.rows[0].iter().chain(right).cloned().map(one).collect(),
                found,
            );
        }
        // A list that is dealt out again after a restore may leave parts of a key's sum with several subtasks.
        let rows = all_rows(scenario).map(|row| (row.key, 0, row.value));
        same_sums(rows, found.iter().cloned())
    }

    fn has_two_sources(&self) -> bool {
        matches!(self.kept, Kept::Connected)
    }
}
