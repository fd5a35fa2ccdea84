//! The behaviour of an HTTP/1 client. Data only.

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Framing {
    ContentLength,
    Chunked,
}

/// When the client reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reading {
    /// After it has written everything.
    AfterSending,
    /// While it writes, and it writes to the end.
    WhileSending,
    /// While it writes, and it stops at the first byte of the response.
    Stops,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Expect {
    No,
    /// Waits for the server's word before it sends the body.
    Waits,
    /// Sends the body without waiting.
    Sends,
}

/// The client's peculiarity.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Extra {
    None,
    /// Closes its sending side after the request.
    HalfCloses,
    /// Writes a second request behind the body.
    Pipelines,
    /// Has a body that looks like requests.
    HidesRequests,
    /// Sends a second request after the response.
    Reuses,
    ReadsSlowly,
    /// Resets, and connects again.
    Resets,
}

/// The behaviour of an HTTP/1 client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Plan {
    pub(crate) is_http10: bool,
    pub(crate) framing: Framing,
    pub(crate) reading: Reading,
    pub(crate) expect: Expect,
    pub(crate) extra: Extra,
}

impl Plan {
    pub(crate) const SENDS_FIRST: Self = Self {
        is_http10: false,
        framing: Framing::ContentLength,
        reading: Reading::AfterSending,
        expect: Expect::No,
        extra: Extra::None,
    };
    pub(crate) const READS: Self = Self::SENDS_FIRST.reading(Reading::WhileSending);
    pub(crate) const STOPS: Self = Self::SENDS_FIRST.reading(Reading::Stops);
    pub(crate) const EXPECT_WAITS: Self = Self::READS.expect(Expect::Waits);
    pub(crate) const EXPECT_SENDS: Self = Self::SENDS_FIRST.expect(Expect::Sends);
    pub(crate) const HALF_CLOSES: Self = Self::SENDS_FIRST.extra(Extra::HalfCloses);
    pub(crate) const PIPELINES: Self = Self::SENDS_FIRST.extra(Extra::Pipelines);
    pub(crate) const HIDES_REQUESTS: Self = Self::READS.extra(Extra::HidesRequests);
    pub(crate) const REUSES: Self = Self::READS.extra(Extra::Reuses);
    pub(crate) const READS_SLOWLY: Self = Self::SENDS_FIRST.extra(Extra::ReadsSlowly);
    pub(crate) const RESETS: Self = Self::STOPS.extra(Extra::Resets);

    pub(crate) const fn chunked(mut self) -> Self {
        self.framing = Framing::Chunked;
        self
    }

    pub(crate) const fn http10(mut self) -> Self {
        self.is_http10 = true;
        self
    }

    const fn reading(mut self, reading: Reading) -> Self {
        self.reading = reading;
        self
    }

    const fn expect(mut self, expect: Expect) -> Self {
        self.expect = expect;
        self
    }

    const fn extra(mut self, extra: Extra) -> Self {
        self.extra = extra;
        self
    }
}
