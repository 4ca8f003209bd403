//! Calls to the outside for each record.

use crate::draft::{Origin, SharedDraft};
use crate::stream::{DataStream, operator, plain_edge};
use rivermark_data::Data;
use rivermark_protocol::graph::NodeRole;
use rivermark_runtime::operators::{AsyncMode, AsyncOperator, AsyncOptions, AsyncRetry, Pipe};
use rivermark_types::InputId;
use std::any::type_name;
use std::fmt::Display;
use std::marker::PhantomData;
use std::sync::Arc;
use std::time::Duration;

/// A stream whose records wait for async calls; how the calls are made is still open. A uid makes a stream of their results.
#[must_use = "async_map(..) needs a uid: add .uid(\"..\")"]
pub struct AsyncStream<T, U, E, F, Fut> {
    draft: SharedDraft,
    from: Vec<Origin>,
    call: F,
    options: AsyncOptions<T, U, E>,
    future: PhantomData<fn() -> Fut>,
}

impl<T: Data, I: Data, P: Pipe<I, Out = T>> DataStream<T, I, P> {
    /// Makes an async call for each record, many of them at once, and goes on with what they give. A call that fails fails
    /// the attempt, with an error that names operator and record; so does a panic in it.
    ///
    /// Calls run on the I/O threads. While too many are under way ([`AsyncStream::capacity`]) no record is taken, and what
    /// comes before has to wait. Records whose results are not out yet are state: after a failure they are called for again,
    /// so a call may be made twice, while its result counts once. A watermark never overtakes the results of records before
    /// it, in either mode.
    ///
    /// ```
    /// # use rivermark_stream::*;
    /// # use std::time::Duration;
    /// # let env = StreamEnv::new();
    /// # async fn look_up(user: u64) -> std::result::Result<String, std::io::Error> { Ok(user.to_string()) }
    /// let users = env.from_collection(vec![1u64, 2, 3]).uid("users");
    /// let names = users
    ///     .async_map(AsyncMode::unordered(), |user| async move { Ok::<_, std::io::Error>((user, look_up(user).await?)) })
    ///     .capacity(200)
    ///     .timeout(Duration::from_secs(2))
    ///     .on_timeout(|user| (*user, "unknown".to_owned()))
    ///     .retry(AsyncRetry::exponential(3, Duration::from_millis(50), Duration::from_secs(1), 2.0))
    ///     .uid("names");
    /// names.discard();
    /// # env.build().unwrap();
    /// ```
    pub fn async_map<U, E, F, Fut>(self, mode: AsyncMode, call: F) -> AsyncStream<T, U, E, F, Fut>
    where
        U: Data,
        E: Display + Send + 'static,
        F: Fn(T) -> Fut + Clone + Send + Sync + 'static,
        Fut: Future<Output = Result<U, E>> + Send + 'static,
    {
        let (draft, from) = self.end_fusion().into_parts();
        AsyncStream {
            draft,
            from,
            call,
            options: AsyncOptions::new(mode),
            future: PhantomData,
        }
    }
}

impl<T, U, E, F, Fut> AsyncStream<T, U, E, F, Fut>
where
    T: Data,
    U: Data,
    E: Display + Send + 'static,
    F: Fn(T) -> Fut + Clone + Send + Sync + 'static,
    Fut: Future<Output = Result<U, E>> + Send + 'static,
{
    /// How many records each subtask has in hand at most: their calls are under way, or finished and waiting for their turn.
    /// 100 unless set, at least 1.
    pub fn capacity(mut self, records: usize) -> Self {
        self.options.capacity = records.max(1);
        self
    }

    /// How long the calls for a record may take, all attempts and waits together. Longer fails the attempt, unless
    /// [`AsyncStream::on_timeout`] says otherwise. Without it a call may take for ever.
    pub fn timeout(mut self, longest: Duration) -> Self {
        self.options.timeout = Some(longest);
        self
    }

    /// What a record comes to whose calls took longer than [`AsyncStream::timeout`].
    pub fn on_timeout(mut self, value: impl Fn(&T) -> U + Send + Sync + 'static) -> Self {
        self.options.on_timeout = Some(Arc::new(value));
        self
    }

    /// Makes a call that failed again.
    pub fn retry(self, strategy: AsyncRetry) -> Self {
        self.retry_if(strategy, |_| true)
    }

    /// Makes a call that failed again, if the error is one that this is true for.
    ///
    /// ```
    /// # use rivermark_stream::*;
    /// # use std::{io, time::Duration};
    /// # let env = StreamEnv::new();
    /// let ids = env.from_collection(vec![1u64]).uid("ids");
    /// ids.async_map(AsyncMode::ordered(), |id| async move { Ok::<_, io::Error>(id) })
    ///     .retry_if(AsyncRetry::fixed_delay(5, Duration::from_millis(100)), |error| {
    ///         error.kind() == io::ErrorKind::ConnectionRefused
    ///     })
    ///     .uid("checked")
    ///     .discard();
    /// # env.build().unwrap();
    /// ```
    pub fn retry_if(
        mut self,
        strategy: AsyncRetry,
        again: impl Fn(&E) -> bool + Send + Sync + 'static,
    ) -> Self {
        self.options.retry = Some((strategy, Arc::new(again)));
        self
    }

    /// The stream of results, under the stable name that unfinished records are found by when the job is resumed.
    pub fn uid(self, uid: &str) -> DataStream<U> {
        let AsyncStream {
            draft,
            from,
            call,
            options,
            ..
        } = self;
        if options.on_timeout.is_some() && options.timeout.is_none() {
            draft.borrow_mut().fault(format!(
                "async_map(..) with uid {uid:?} has .on_timeout(..) but no .timeout(..): add one"
            ));
        }
        let options = Arc::new(options);
        let body = operator(move || AsyncOperator::new(call.clone(), options.clone()));
        let node = {
            let mut draft = draft.borrow_mut();
            let node = draft.add(NodeRole::Operator, "async_map", body, |node| {
                node.has_state = true;
                node.output_types = vec![type_name::<U>().to_owned()];
            });
            draft.connect(&from, node, InputId(0), plain_edge::<T>());
            node
        };
        DataStream::of_node(&draft, node).uid(uid)
    }
}
