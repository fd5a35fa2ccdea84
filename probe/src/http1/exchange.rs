//! One upload by an HTTP/1 client.

use std::time::Duration;

use http::Method;
use tokio::{
    io::split,
    join, select,
    time::{Instant, sleep},
};

use super::{
    plan::{Expect, Extra, Plan, Reading},
    reader::Reader,
    writer::{self, Writer},
};
use crate::{
    body::Body,
    connection::{Connection, Properties},
    context::{Context, idle, milliseconds},
    observation::{Observation, Received, Second},
};

/// How long a client waits for the server's word after `Expect: 100-continue`. curl waits as long.
const EXPECT_PATIENCE: Duration = Duration::from_secs(1);
/// How long a slow reader waits before its first read.
const SLOW_PAUSE: Duration = Duration::from_secs(1);
/// How long a client waits for the response to its second request.
const SECOND_PATIENCE: Duration = Duration::from_secs(2);
/// How long a client waits for a response that must not come.
const UNSOLICITED_PATIENCE: Duration = Duration::from_millis(500);

/// Uploads once.
pub(crate) async fn run(plan: Plan, context: &Context) -> Observation {
    if plan.extra != Extra::Resets {
        return upload(plan, context).await;
    }
    let reset = upload(plan, context).await;
    if reset.no_connection.is_some() {
        return reset;
    }
    let mut seen = upload(Plan::STOPS, context).await;
    seen.body_sent += reset.body_sent;
    seen
}

async fn upload(plan: Plan, context: &Context) -> Observation {
    let watches_response = plan.reading == Reading::AfterSending && plan.expect == Expect::No;
    let properties = Properties {
        small_buffer: plan.extra == Extra::ReadsSlowly,
        resets: plan.extra == Extra::Resets,
        watches_response,
        ..Properties::default()
    };
    let connection = match context.connector.connect(properties).await {
        Ok(connection) => connection,
        Err(error) => {
            return Observation {
                no_connection: Some(error.to_string()),
                ..Observation::default()
            };
        }
    };
    let mut exchange = Exchange::new(plan, context, connection);
    let log = exchange.reader.log();
    let is_stalled = select! {
        biased;
        () = exchange.play() => false,
        () = idle(&log, context.options.timeout) => true,
    };
    exchange.observe(is_stalled)
}

struct Exchange<'a> {
    plan: Plan,
    context: &'a Context,
    start: Instant,
    head: Vec<u8>,
    reader: Reader,
    writer: Writer,
    second: Second,
    /// Whether the responses beyond the first were awaited.
    counts_responses: bool,
}

impl<'a> Exchange<'a> {
    fn new(plan: Plan, context: &'a Context, connection: Connection) -> Self {
        let options = &context.options;
        let mut body = Body::new(options);
        if plan.extra == Extra::HidesRequests {
            body = body.hiding_requests(&context.target);
        }
        let (read, write) = split(connection.stream);
        let to_head = options.method == Method::HEAD;
        let is_slow = plan.extra == Extra::ReadsSlowly;
        Self {
            plan,
            context,
            start: Instant::now(),
            head: writer::head(context, plan, &body),
            reader: Reader::new(read, connection.log.clone(), to_head, is_slow),
            writer: Writer::new(write, connection.log, plan.framing, body, options.rate),
            second: Second::NotSent,
            counts_responses: false,
        }
    }

    async fn play(&mut self) {
        let head = std::mem::take(&mut self.head);
        if self.writer.write(&head).await {
            if self.plan.expect == Expect::Waits {
                self.reader.read_any(EXPECT_PATIENCE).await;
            }
            if !self.reader.responses.has_final_bytes() {
                self.send_body().await;
            }
        }
        if self.plan.extra == Extra::Resets {
            return;
        }
        self.reader.read_whole(1).await;
        self.after_response().await;
    }

    async fn send_body(&mut self) {
        match self.plan.reading {
            Reading::AfterSending => self.writer.write_body().await,
            Reading::WhileSending => {
                join!(
                    biased;
                    self.reader.read_whole(1),
                    self.writer.write_body(),
                );
            }
            Reading::Stops => {
                select! {
                    biased;
                    () = self.reader.read_first_byte() => {}
                    () = self.writer.write_body() => {}
                }
            }
        }
        match self.plan.extra {
            Extra::HalfCloses => self.writer.half_close().await,
            Extra::Pipelines => {
                self.writer.write(&writer::second(self.context)).await;
            }
            Extra::ReadsSlowly => sleep(SLOW_PAUSE).await,
            Extra::None | Extra::HidesRequests | Extra::Reuses | Extra::Resets => {}
        }
    }

    async fn after_response(&mut self) {
        let Some(first) = self.reader.responses.whole().first().copied() else {
            return;
        };
        match self.plan.extra {
            Extra::Pipelines => self.await_second().await,
            // The response said that there will be no other.
            Extra::Reuses if first.says_close => {}
            Extra::Reuses => {
                self.writer.write(&writer::second(self.context)).await;
                self.await_second().await;
            }
            Extra::HidesRequests => {
                self.counts_responses = true;
                let reader = &mut self.reader;
                reader.read_whole_within(2, UNSOLICITED_PATIENCE).await;
            }
            Extra::None | Extra::HalfCloses | Extra::ReadsSlowly | Extra::Resets => {}
        }
    }

    async fn await_second(&mut self) {
        let reader = &mut self.reader;
        reader.read_whole_within(2, SECOND_PATIENCE).await;
        self.counts_responses = true;
        self.second = match reader.responses.whole().len() {
            0 | 1 if reader.has_ended => Second::Unserved,
            0 | 1 => Second::NoResponse,
            _ => {
                // The bytes of a third response would have come with the second.
                reader.read_whole_within(3, Duration::ZERO).await;
                Second::Served
            }
        };
    }

    fn observe(self, is_stalled: bool) -> Observation {
        let responses = &self.reader.responses;
        let notes = self.reader.log().notes();
        let first = responses.first();
        let whole = responses.whole().len();
        let received = match (whole, responses.has_part()) {
            (0, false) => Received::Nothing,
            (0, true) => Received::Part,
            _ => Received::Whole,
        };
        let solicited = match self.second {
            Second::Served => 2,
            Second::NotSent | Second::Unserved | Second::NoResponse => 1,
        };
        let came = whole + usize::from(whole > 0 && responses.has_part());
        let unsolicited = match self.counts_responses {
            true => came.saturating_sub(solicited),
            false => 0,
        };
        let first_byte = notes.readable_at.or(self.reader.first_byte);
        let mut seen = Observation {
            status: first.map(|head| head.status),
            received,
            says_close: first.is_some_and(|head| head.says_close),
            interim_100: responses.has_interim_100(),
            reset_before_whole: self
                .reader
                .failed_before_whole
                .unwrap_or_else(|| notes.has_failed()),
            failed_write: notes.failed_write,
            reset: notes.reset,
            stalled: is_stalled && received != Received::Whole,
            early: self.early(first_byte),
            first_byte_ms: first_byte.map(|at| milliseconds(at - self.start)),
            body_sent: self.writer.sent,
            second: self.second,
            unsolicited_responses: u32::try_from(unsolicited).unwrap_or(u32::MAX),
            ..Observation::default()
        };
        if seen.is_early() && seen.status.is_none_or(|status| status >= 300) {
            seen.sent_in_vain = seen.body_sent;
        }
        seen
    }

    /// Returns whether the response came before the request was written.
    fn early(&self, first_byte: Option<Instant>) -> Option<bool> {
        let Some(finished_at) = self.writer.finished_at else {
            return Some(true);
        };
        let sees_first_byte = self.plan.reading != Reading::AfterSending
            || self.reader.log().notes().readable_at.is_some();
        match (sees_first_byte, first_byte) {
            (true, Some(first_byte)) => Some(first_byte < finished_at),
            _ => None,
        }
    }
}
