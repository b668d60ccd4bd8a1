//! The store over real directories, and what its errors turn into.

use object_store::{local::LocalFileSystem, memory::InMemory};

use super::*;
use crate::{ManualEnv, objects_conformance, probe};

#[test]
fn a_directory_conforms() {
    let root = tempfile::tempdir().unwrap();
    let url = format!("file://{}/new/store", root.path().display());
    let objects = open_url(&url).unwrap();
    objects_conformance(&*objects);
    probe(&*objects, &ManualEnv::new(3)).unwrap();
}

#[test]
fn memory_conforms_by_url_and_below_a_prefix() {
    objects_conformance(&*open_url("memory:").unwrap());
    objects_conformance(&StoreObjects::new(Arc::new(InMemory::new()), "").unwrap());
    let below: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
    let other = StoreObjects::new(Arc::clone(&below), "other").unwrap();
    other.put("x", Bytes::from_static(b"theirs")).unwrap();
    objects_conformance(&StoreObjects::new(Arc::clone(&below), "/a/b/").unwrap());
    assert_eq!(other.list("", None).unwrap(), ["x"], "prefixes keep stores apart");
}

#[test]
fn objects_outlive_the_handle() {
    let root = tempfile::tempdir().unwrap();
    let url = format!("file://{}", root.path().display());
    open_url(&url).unwrap().create("a/b", Bytes::from_static(b"kept")).unwrap();
    assert_eq!(open_url(&url).unwrap().get("a/b").unwrap(), "kept");
}

#[test]
fn calls_and_drops_work_inside_another_runtime() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).build().unwrap();
    let objects = StoreObjects::new(Arc::new(InMemory::new()), "").unwrap();
    runtime.block_on(async move {
        let objects = tokio::task::spawn_blocking(move || {
            objects.put("a", Bytes::from_static(b"x")).unwrap();
            assert_eq!(objects.get("a").unwrap(), "x");
            objects
        });
        // Dropped in an async task, where stopping a runtime and waiting for it would panic.
        drop(objects.await.unwrap());
    });
}

#[test]
fn keys_that_a_store_would_change_are_refused() {
    let objects = StoreObjects::new(Arc::new(InMemory::new()), "p").unwrap();
    for key in ["", "/a", "a/", "a//b", "..", "a/../b", "a/./b", "a\nb"] {
        let refused = objects.put(key, Bytes::new());
        assert!(matches!(refused, Err(ObjectsError::Failed(_))), "{key:?}: {refused:?}");
    }
}

#[test]
fn a_truncated_object_is_failed_not_unavailable() {
    let root = tempfile::tempdir().unwrap();
    let store = LocalFileSystem::new_with_prefix(root.path()).unwrap();
    let objects = StoreObjects::new(Arc::new(store), "").unwrap();
    objects.put("seg", Bytes::from_static(b"0123456789")).unwrap();
    let file = std::fs::OpenOptions::new().write(true).open(root.path().join("seg")).unwrap();
    file.set_len(4).unwrap();
    let answers = objects.get_ranges(&[("seg".to_owned(), 2..8), ("seg".to_owned(), 6..8)]);
    assert!(answers.iter().all(|answer| matches!(answer, Err(ObjectsError::Failed(_)))));
}

#[test]
fn errors_say_what_the_caller_can_do() {
    let generic = |kind: io::ErrorKind| StoreError::Generic {
        store: "test",
        source: Box::new(io::Error::new(kind, "cause")),
    };
    let full = refine("k", &generic(io::ErrorKind::StorageFull));
    assert!(matches!(&full, ObjectsError::Failed(text) if text.contains("no space")), "{full}");
    let denied = refine("k", &generic(io::ErrorKind::PermissionDenied));
    assert!(matches!(denied, ObjectsError::Denied(_)));
    let away = refine("k", &generic(io::ErrorKind::ConnectionReset));
    assert!(matches!(away, ObjectsError::Unavailable(_)));
    let text = |text: &str| StoreError::Generic { store: "test", source: text.into() };
    let bad = refine("k", &text("Server returned non-2xx status code: 400 Bad Request: "));
    assert!(matches!(bad, ObjectsError::Failed(_)));
    for status in ["429 Too Many Requests", "503 Service Unavailable"] {
        let busy = refine("k", &text(&format!("Server returned non-2xx status code: {status}: ")));
        assert!(matches!(busy, ObjectsError::Unavailable(_)), "{status}");
    }
}

/// Mounting a small disk needs the superuser, so the error comes from the device that is always
/// full.
#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_is_named() {
    use std::io::Write as _;
    let mut full = std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let source = full.write_all(b"x").unwrap_err();
    let error = StoreError::Generic { store: "test", source: Box::new(source) };
    let refined = refine("k", &error);
    assert!(refined.to_string().contains("no space left"), "{refined}");
}

#[cfg(feature = "cloud")]
mod cloud {
    use std::{
        io::{BufRead as _, BufReader, Read as _, Write as _},
        net::{SocketAddr, TcpListener},
        thread::{Scope, ScopedJoinHandle},
    };

    use object_store::{RetryConfig, aws::AmazonS3Builder};

    use super::*;

    /// An S3 client for a server on this machine that does not repeat requests.
    fn objects(address: SocketAddr) -> StoreObjects {
        let store = AmazonS3Builder::new()
            .with_bucket_name("bucket")
            .with_endpoint(format!("http://{address}"))
            .with_allow_http(true)
            .with_access_key_id("id")
            .with_secret_access_key("secret")
            .with_region("here")
            .with_retry(RetryConfig { max_retries: 0, ..RetryConfig::default() })
            .build()
            .unwrap();
        StoreObjects::new(Arc::new(store), "p").unwrap()
    }

    /// Reads one request and answers with `status`, or hangs up without an answer.
    fn serve_once<'scope>(
        scope: &'scope Scope<'scope, '_>,
        listener: &'scope TcpListener,
        status: Option<&'scope str>,
    ) -> ScopedJoinHandle<'scope, String> {
        scope.spawn(move || {
            let (stream, _) = listener.accept().unwrap();
            let mut reader = BufReader::new(stream);
            let (mut head, mut len) = (String::new(), 0);
            loop {
                let mut line = String::new();
                reader.read_line(&mut line).unwrap();
                if let Some(value) = line.to_lowercase().strip_prefix("content-length:") {
                    len = value.trim().parse().unwrap();
                }
                if line.trim().is_empty() {
                    break;
                }
                head.push_str(&line);
            }
            reader.read_exact(&mut vec![0; len]).unwrap();
            if let Some(status) = status {
                let answer = format!("HTTP/1.1 {status}\r\ncontent-length: 0\r\n\r\n");
                reader.get_mut().write_all(answer.as_bytes()).unwrap();
            }
            head
        })
    }

    fn create_answered(status: Option<&str>) -> Result<(), ObjectsError> {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let objects = objects(listener.local_addr().unwrap());
        std::thread::scope(|scope| {
            let served = serve_once(scope, &listener, status);
            let created = objects.create("a", Bytes::from_static(b"x"));
            let head = served.join().unwrap().to_lowercase();
            assert!(head.starts_with("put /bucket/p/a "), "{head}");
            assert!(head.contains("if-none-match: *"), "{head}");
            created
        })
    }

    #[test]
    fn the_outcome_of_a_create_is_never_guessed() {
        assert!(matches!(create_answered(None), Err(ObjectsError::Ambiguous { .. })));
        for status in ["500 Oops", "503 Slow Down"] {
            let created = create_answered(Some(status));
            assert!(matches!(created, Err(ObjectsError::Ambiguous { .. })), "{status}");
        }
        let lost = create_answered(Some("412 Precondition Failed"));
        assert!(matches!(lost, Err(ObjectsError::AlreadyExists(_))), "{lost:?}");
        let denied = create_answered(Some("403 Forbidden"));
        assert!(matches!(denied, Err(ObjectsError::Denied(_))), "{denied:?}");
        let refused = create_answered(Some("400 Bad Request"));
        assert!(matches!(refused, Err(ObjectsError::Failed(_))), "{refused:?}");
    }

    #[test]
    fn a_store_that_is_away_was_never_asked() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let objects = objects(listener.local_addr().unwrap());
        drop(listener);
        let created = objects.create("a", Bytes::new());
        assert!(matches!(created, Err(ObjectsError::Unavailable(_))), "{created:?}");
        let read = objects.get("a");
        assert!(matches!(read, Err(ObjectsError::Unavailable(_))), "{read:?}");
    }
}
