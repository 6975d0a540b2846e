//! How long a caller waits.
//!
//! The server underneath ends a call whose `grpc-timeout` is over, too, but as CANCELLED, which is for callers that
//! gave up. So the same is done here a moment before, and told as it is: DEADLINE_EXCEEDED.
//!
//! Source: `doc/PROTOCOL-HTTP2.md` of gRPC, "Timeout".

use std::task::{Context, Poll};
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use tonic::Status;
use tonic::body::Body;
use tonic::codegen::http::{HeaderMap, Request, Response};
use tower::{Layer, Service};

const TIMEOUT: &str = "grpc-timeout";

/// The most digits of a timeout.
const DIGITS_MAX: usize = 8;

/// A layer that has calls end with their callers' deadlines.
#[derive(Debug, Clone, Copy)]
pub struct Deadlines;

impl<S> Layer<S> for Deadlines {
    type Service = WithDeadline<S>;

    fn layer(&self, inner: S) -> WithDeadline<S> {
        WithDeadline { inner }
    }
}

/// A service whose calls end with their callers' deadlines.
#[derive(Debug, Clone)]
pub struct WithDeadline<S> {
    inner: S,
}

impl<S, B> Service<Request<B>> for WithDeadline<S>
where
    S: Service<Request<B>, Response = Response<Body>>,
    S::Future: Send + 'static,
{
    type Response = Response<Body>;
    type Error = S::Error;
    type Future = BoxFuture<'static, Result<Response<Body>, S::Error>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let Some(timeout) = timeout(request.headers()) else {
            return self.inner.call(request).boxed();
        };
        // it begins here and not when it is polled: the one underneath has not begun yet
        let call = tokio::time::timeout(timeout, self.inner.call(request));
        let over = || Status::deadline_exceeded("the caller's deadline is over").into_http();
        call.map(move |ended| ended.unwrap_or_else(|_| Ok(over()))).boxed()
    }
}

/// What a caller says; none when it says nothing, or nothing of sense.
fn timeout(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get(TIMEOUT)?.to_str().ok()?;
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    let is_number = (1..=DIGITS_MAX).contains(&digits.len())
        && digits.bytes().all(|byte| byte.is_ascii_digit());
    let count = digits.parse().ok().filter(|_| is_number)?;
    Some(match unit {
        "H" => Duration::from_secs(count * 60 * 60),
        "M" => Duration::from_secs(count * 60),
        "S" => Duration::from_secs(count),
        "m" => Duration::from_millis(count),
        "u" => Duration::from_micros(count),
        "n" => Duration::from_nanos(count),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use tower::service_fn;

    use super::*;

    fn read(text: &str) -> Option<Duration> {
        timeout(&HeaderMap::from_iter([(TIMEOUT.parse().unwrap(), text.parse().unwrap())]))
    }

    #[test]
    fn a_timeout_is_at_most_eight_digits_and_a_unit() {
        assert_eq!(read("5m"), Some(Duration::from_millis(5)));
        assert_eq!(read("99999999H"), Some(Duration::from_secs(99_999_999 * 3600)));
        assert_eq!(read("0n"), Some(Duration::ZERO));
        for none in ["", "5", "m", "100000000S", "-1S", "+1S", "1.5S", "5x", "5 m"] {
            assert_eq!(read(none), None, "{none}");
        }
        assert_eq!(timeout(&HeaderMap::new()), None);
    }

    #[tokio::test(start_paused = true)]
    async fn a_call_ends_with_its_callers_deadline_and_says_so() {
        let takes_a_minute = service_fn(|_: Request<()>| async {
            tokio::time::sleep(Duration::from_mins(1)).await;
            Ok::<_, Infallible>(Response::new(Body::empty()))
        });
        let mut service = Deadlines.layer(takes_a_minute);
        let mut code = async |timeout: &str| {
            let request = Request::builder().header(TIMEOUT, timeout).body(()).unwrap();
            let response = service.call(request).await.unwrap();
            Status::from_header_map(response.headers()).map(|status| status.code())
        };
        assert_eq!(code("59S").await, Some(tonic::Code::DeadlineExceeded));
        assert_eq!(code("61S").await, None);
        assert_eq!(code("nonsense").await, None);
    }
}
