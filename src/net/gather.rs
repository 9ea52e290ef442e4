//! A body whose small frames are put together, as far as they are there already.
//!
//! HTTP/2 queues cost some 300 bytes a frame whatever it holds, and what a stream may send is counted in bytes: a
//! peer that sends one byte a frame would fill 256 KiB of room with 70 MiB. Nothing is waited for, so a conversation
//! of small messages is as quick as without.

use std::{
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::{Bytes, BytesMut};
use http_body::{Body, Frame, SizeHint};

/// The body.
#[derive(Debug)]
pub struct Gathered<B: Body<Data = Bytes>> {
    body: B,
    /// Came after what was put together last, and is no part of it.
    held: Option<Option<Result<Frame<Bytes>, B::Error>>>,
}

impl<B: Body<Data = Bytes> + Unpin> Gathered<B> {
    /// Wraps `body`.
    pub fn new(body: B) -> Self {
        Self { body, held: None }
    }

    /// The first frame's data, and that of all small ones which are there behind it.
    fn gather(&mut self, first: Bytes, cx: &mut Context<'_>) -> Bytes {
        let mut all = BytesMut::new();
        let (mut length, mut frames) = (first.len(), 1);
        while length < MOST_GATHERED && frames < MOST_FRAMES && !self.body.is_end_stream() {
            let Poll::Ready(next) = Pin::new(&mut self.body).poll_frame(cx) else { break };
            match next.map(|frame| frame.map(Frame::into_data)) {
                Some(Ok(Ok(data))) if data.len() <= SMALL => {
                    if all.is_empty() {
                        all.extend_from_slice(&first);
                    }
                    all.extend_from_slice(&data);
                    (length, frames) = (length + data.len(), frames + 1);
                    continue;
                }
                Some(Ok(Ok(data))) => self.held = Some(Some(Ok(Frame::data(data)))),
                Some(Ok(Err(other))) => self.held = Some(Some(Ok(other))),
                Some(Err(error)) => self.held = Some(Some(Err(error))),
                None => self.held = Some(None),
            }
            break;
        }
        if all.is_empty() { first } else { all.freeze() }
    }
}

impl<B: Body<Data = Bytes> + Unpin> Body for Gathered<B>
where
    B::Error: Unpin,
{
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        let this = self.get_mut();
        let next = match this.held.take() {
            Some(held) => held,
            None => ready!(Pin::new(&mut this.body).poll_frame(cx)),
        };
        Poll::Ready(match next.map(|frame| frame.map(Frame::into_data)) {
            Some(Ok(Ok(data))) if data.len() <= SMALL => Some(Ok(Frame::data(this.gather(data, cx)))),
            Some(Ok(Ok(data))) => Some(Ok(Frame::data(data))),
            Some(Ok(Err(other))) => Some(Ok(other)),
            Some(Err(error)) => Some(Err(error)),
            None => None,
        })
    }

    fn is_end_stream(&self) -> bool {
        match &self.held {
            Some(held) => held.is_none(),
            None => self.body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        let mut hint = self.body.size_hint();
        if let Some(Some(Ok(frame))) = &self.held
            && let Some(data) = frame.data_ref()
        {
            let more = data.len() as u64;
            let upper = hint.upper().map(|upper| upper + more);
            hint.set_lower(hint.lower() + more);
            if let Some(upper) = upper {
                hint.set_upper(upper);
            }
        }
        hint
    }
}

/// What is larger is worth a frame of its own, and not worth a copy.
const SMALL: usize = 1024;
/// A frame's usual size.
const MOST_GATHERED: usize = 16 * 1024;
/// Empty frames add nothing, and must not keep us here.
const MOST_FRAMES: usize = 16 * 1024;

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use super::*;

    /// Steps of a body: a frame, nothing yet, or an error.
    enum Step {
        Data(usize),
        Wait,
        Trailers,
        Fail,
    }

    struct Steps(VecDeque<Step>);

    impl Body for Steps {
        type Data = Bytes;
        type Error = &'static str;

        fn poll_frame(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
            match self.0.pop_front() {
                Some(Step::Wait) => Poll::Pending,
                Some(Step::Data(length)) => Poll::Ready(Some(Ok(Frame::data(vec![7; length].into())))),
                Some(Step::Trailers) => Poll::Ready(Some(Ok(Frame::trailers(http::HeaderMap::new())))),
                Some(Step::Fail) => Poll::Ready(Some(Err("broken"))),
                None => Poll::Ready(None),
            }
        }
    }

    /// What comes out, in words.
    fn out(steps: Vec<Step>) -> Vec<String> {
        let mut body = Gathered::new(Steps(steps.into()));
        let mut cx = Context::from_waker(std::task::Waker::noop());
        let mut seen = Vec::new();
        loop {
            seen.push(match Pin::new(&mut body).poll_frame(&mut cx) {
                Poll::Pending => "wait".to_owned(),
                Poll::Ready(None) => return seen,
                Poll::Ready(Some(Err(error))) => error.to_owned(),
                Poll::Ready(Some(Ok(frame))) => match frame.into_data() {
                    Ok(data) => data.len().to_string(),
                    Err(_) => "trailers".to_owned(),
                },
            });
        }
    }

    #[test]
    fn small_frames_that_are_there_become_one_and_nothing_is_waited_for() {
        use Step::{Data, Fail, Trailers, Wait};
        assert_eq!(out(vec![Data(1), Data(2), Data(3)]), ["6"]);
        assert_eq!(out(vec![Data(1), Wait, Data(2)]), ["1", "2"]);
        assert_eq!(out(vec![Wait, Data(1)]), ["wait", "1"]);
        assert_eq!(out(vec![Data(1), Data(2), Data(5000), Data(3)]), ["3", "5000", "3"]);
        assert_eq!(out(vec![Data(5000), Data(1)]), ["5000", "1"]);
        assert_eq!(out(vec![Data(1), Data(1), Trailers]), ["2", "trailers"]);
        assert_eq!(out(vec![Data(1), Data(1), Fail]), ["2", "broken"]);
        assert_eq!(out(vec![]), Vec::<String>::new());
    }

    #[test]
    fn what_is_put_together_has_a_bound() {
        let tiny = (0..40_000).map(|_| Step::Data(1)).collect();
        assert_eq!(out(tiny), ["16384", "16384", "7232"]);
        let empty = (0..40_000).map(|_| Step::Data(0)).collect();
        assert_eq!(out(empty), ["0", "0", "0"]);
        let kibibytes = (0..20).map(|_| Step::Data(1024)).collect();
        assert_eq!(out(kibibytes), ["16384", "4096"]);
    }
}
