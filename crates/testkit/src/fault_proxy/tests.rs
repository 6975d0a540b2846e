use std::io::Read;

use super::*;

/// A server that answers each request with its number of requests so far and, for a PUT, keeps
/// nothing.
fn server() -> (String, Arc<Mutex<Vec<Message>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    let asked = Arc::new(Mutex::new(Vec::new()));
    let asking = Arc::clone(&asked);
    std::thread::spawn(move || {
        for caller in listener.incoming().flatten() {
            let asking = Arc::clone(&asking);
            std::thread::spawn(move || {
                let mut requests = BufReader::new(&caller);
                while let Ok(Some(request)) = read_message(&mut requests, None) {
                    asking.lock().unwrap().push(request);
                    let head =
                        "HTTP/1.1 200 OK\r\nETag: \"e\"\r\nTransfer-Encoding: chunked\r\n\r\n";
                    (&caller).write_all(head.as_bytes()).unwrap();
                    (&caller).write_all(b"4\r\nfour\r\n2\r\nto\r\n0\r\n\r\n").unwrap();
                }
            });
        }
    });
    (endpoint, asked)
}

/// The answer to one request, as far as it comes.
fn ask(proxy: &FaultProxy, request: &str) -> String {
    ask_within(proxy, request, Duration::from_secs(10))
}

/// Everything that comes for one request until it is whole, the connection ends or says nothing for so long.
fn ask_within(proxy: &FaultProxy, request: &str, silence: Duration) -> String {
    let mut stream = TcpStream::connect(proxy.endpoint.trim_start_matches("http://")).unwrap();
    stream.set_read_timeout(Some(silence)).unwrap();
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = Vec::new();
    let mut piece = [0; 1024];
    while let Ok(count @ 1..) = stream.read(&mut piece) {
        answer.extend_from_slice(&piece[..count]);
        if is_whole(&String::from_utf8_lossy(&answer)) {
            break;
        }
    }
    String::from_utf8(answer).unwrap()
}

fn is_whole(answer: &str) -> bool {
    answer.split_once("\r\n\r\n").is_some_and(|(head, body)| {
        let mut lengths = head.lines().filter_map(|line| line.strip_prefix("Content-Length: "));
        lengths.next().is_some_and(|length| length.parse() == Ok(body.len()))
    })
}

const GET: &str = "GET /cove/teams/home/packs/a HTTP/1.1\r\nHost: h\r\n\r\n";
const PUT: &str =
    "PUT /cove/teams/home/packs/b HTTP/1.1\r\nHost: h\r\nContent-Length: 6\r\n\r\nbefore";

#[test]
fn everything_passes_without_a_plan() {
    let (endpoint, asked) = server();
    let proxy = FaultProxy::before(&endpoint);
    let answer = ask(&proxy, GET);
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n") && answer.ends_with("\r\n\r\nfourto"));
    assert!(answer.contains("Content-Length: 6\r\n"), "{answer}");
    ask(&proxy, PUT);
    let asked = asked.lock().unwrap();
    assert_eq!([asked[0].bytes(), asked[1].bytes()], [GET.as_bytes(), PUT.as_bytes()]);
    let seen: Vec<String> = proxy.seen().iter().map(ToString::to_string).collect();
    assert_eq!(
        seen,
        ["  0 Get Pack /cove/teams/home/packs/a", "  1 Put Pack /cove/teams/home/packs/b"]
    );
}

#[test]
fn the_request_of_the_plan_fails_and_no_other() {
    let (endpoint, asked) = server();
    let proxy = FaultProxy::before(&endpoint);
    ask(&proxy, PUT);
    let whole = ask(&proxy, GET);
    for (fault, request, forwarded, expected) in [
        (Fault::Refused, GET, 0, ""),
        (Fault::TimeOutBefore, GET, 0, ""),
        (Fault::TimeOutAfter, GET, 1, ""),
        (Fault::Status(503), GET, 0, "<Code>SlowDown</Code>"),
        (Fault::Status(404), PUT, 0, "<Code>NoSuchKey</Code>"),
        (Fault::CutAnswer, GET, 1, "\r\n\r\nfou"),
        (Fault::FlippedByte, GET, 1, "\r\n\r\nfoubto"),
        (Fault::WrongObject, GET, 0, "\r\n\r\nbefore"),
        (Fault::Slow, GET, 1, "\r\n\r\nfourto"),
        (Fault::CutUpload, PUT, 0, ""),
    ] {
        let before = asked.lock().unwrap().len();
        proxy.arm(FaultPlan::once(1, fault));
        assert_eq!(ask(&proxy, GET), whole, "before {fault:?}");
        let answer = match expected {
            "" => ask_within(&proxy, request, Duration::from_millis(300)),
            _ => ask(&proxy, request),
        };
        let is_right =
            if expected.is_empty() { answer.is_empty() } else { answer.contains(expected) };
        assert!(is_right, "{fault:?}: {answer}");
        if fault == Fault::CutAnswer {
            assert!(answer.ends_with(expected), "{answer}");
        }
        assert_eq!(ask(&proxy, GET), whole, "after {fault:?}");
        let after = asked.lock().unwrap().len();
        assert_eq!(after - before, 2 + forwarded, "{fault:?}");
        let seen: Vec<_> = proxy.seen().iter().map(|seen| seen.fault).collect();
        assert_eq!(seen, [None, Some(fault), None]);
    }
}

#[test]
fn a_wrong_object_has_the_part_that_was_asked_for() {
    let (endpoint, _) = server();
    let proxy = FaultProxy::before(&endpoint);
    ask(&proxy, PUT);
    let part = |range: &str| {
        proxy.arm(FaultPlan::once(0, Fault::WrongObject));
        ask(&proxy, &GET.replace("Host: h", &format!("Range: bytes={range}")))
    };
    let answer = part("1-2");
    assert!(answer.ends_with("\r\n\r\nef") && answer.contains("bytes 1-2/6"), "{answer}");
    assert!(part("-2").ends_with("\r\n\r\nre"));
    // none of it is there: the right object comes
    assert!(part("6-9").ends_with("\r\n\r\nfourto"));
    assert_eq!(proxy.seen()[0].fault, None);
}

#[test]
fn an_outage_lasts_for_some_requests_and_leaves_others_alone() {
    let (endpoint, _) = server();
    let proxy = FaultProxy::before(&endpoint);
    let claim = GET.replace("teams/home/packs/a", "store");
    proxy.arm(FaultPlan::outage(1, 2, Fault::Status(500)).then(Fault::Status(403)));
    let fails = |request: &str| ask(&proxy, request).split(' ').nth(1).unwrap().to_owned();
    let found: Vec<String> = [GET, &claim, GET, &claim, GET, GET, GET].map(fails).into();
    assert_eq!(found, ["200", "200", "500", "200", "500", "403", "200"]);
    proxy.arm(FaultPlan::once(0, Fault::Status(500)).of_all());
    assert_eq!(fails(&claim), "500");
    proxy.arm(FaultPlan::once(0, Fault::Status(500)));
    proxy.heal();
    assert_eq!(fails(GET), "200");
}
