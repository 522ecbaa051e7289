//! The archive by itself: what was appended is found, whatever order it came in, and a disk that fails or a
//! crash costs nothing.

use super::super::scalars::At;
use super::super::session::{Order, Session, Version};
use super::*;

fn record(id: SessionId, starts: u32) -> Record {
    let mut record = Record::new(Session::created(id, "p", Version::V2, Order::default(), At(1)));
    record.page.starts = starts;
    record
}

fn ids(count: usize) -> Vec<SessionId> {
    (0..count).map(|_| SessionId::fresh()).collect()
}

fn append(archive: &mut Archive, ids: &[SessionId], starts: u32) {
    let records: Vec<Record> = ids.iter().map(|id| record(*id, starts)).collect();
    let count = archive.append(&records.iter().collect::<Vec<_>>()).unwrap();
    assert_eq!(count, ids.len());
}

fn starts(archive: &Archive, id: SessionId) -> Option<u32> {
    let found = archive.read(id).unwrap();
    found.map(|record| {
        assert_eq!(record.session.id, id);
        record.page.starts
    })
}

#[test]
fn every_session_is_found_by_an_index_of_blocks() {
    let mut archive = Archive::default();
    let ids = ids(1_000);
    // Every tenth is not archived.
    let leaving: Vec<_> = ids.iter().enumerate().filter(|(n, _)| n % 10 != 0).map(|(_, id)| *id).collect();
    leaving.chunks(7).for_each(|batch| append(&mut archive, batch, 1));
    for (n, id) in ids.iter().enumerate() {
        assert_eq!(starts(&archive, *id), (n % 10 != 0).then_some(1), "{n}");
    }
    assert!(archive.entries() <= leaving.len().div_ceil(usize::try_from(LINES_PER_BLOCK).unwrap()));
    assert_eq!(starts(&archive, SessionId::fresh()), None);
    assert_eq!(starts(&Archive::default(), ids[1]), None);
}

#[test]
fn what_leaves_late_or_again_supersedes() {
    let mut archive = Archive::default();
    let ids = ids(200);
    let (late, on_time): (Vec<_>, Vec<_>) = ids.iter().partition(|id| **id == ids[3] || **id == ids[150]);
    append(&mut archive, &on_time, 1);
    append(&mut archive, &late, 2);
    assert_eq!((starts(&archive, ids[3]), starts(&archive, ids[150])), (Some(2), Some(2)));
    assert_eq!(starts(&archive, ids[4]), Some(1));
    // One from a block and one stray come back and leave again, more than once.
    for round in 3..6 {
        for id in [ids[3], ids[199]] {
            archive.release(id);
            append(&mut archive, &[id], round);
            assert_eq!(starts(&archive, id), Some(round));
        }
    }
    assert_eq!(archive.strays.len(), 3);
    let younger = SessionId::fresh();
    append(&mut archive, &[younger], 9);
    assert_eq!((starts(&archive, younger), archive.strays.len()), (Some(9), 3));
}

#[test]
fn a_crash_between_append_and_save_leaves_what_was_saved() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("state.archive");
    let mut archive = Archive::default();
    archive.find(path.clone()).unwrap();
    assert!(!path.exists(), "nothing to keep yet");
    let ids = ids(50);
    append(&mut archive, &ids[..40], 1);
    let saved = serde_json::to_string(&archive).unwrap();
    let length = std::fs::metadata(&path).unwrap().len();
    append(&mut archive, &ids[40..], 1);
    assert!(std::fs::metadata(&path).unwrap().len() > length);

    let mut archive: Archive = serde_json::from_str(&saved).unwrap();
    archive.find(path.clone()).unwrap();
    assert_eq!(std::fs::metadata(&path).unwrap().len(), length);
    assert_eq!((starts(&archive, ids[39]), starts(&archive, ids[40])), (Some(1), None));
    append(&mut archive, &ids[40..], 2);
    assert_eq!((starts(&archive, ids[39]), starts(&archive, ids[40])), (Some(1), Some(2)));

    std::fs::write(&path, "{").unwrap();
    let mut archive: Archive = serde_json::from_str(&saved).unwrap();
    assert!(archive.find(path.clone()).is_err(), "less than the index knows");
    // A state that knows of no archive begins a new one.
    let mut archive = Archive::default();
    archive.find(path.clone()).unwrap();
    append(&mut archive, &ids[..1], 3);
    assert_eq!(starts(&archive, ids[0]), Some(3));
}

#[test]
fn a_write_that_fails_changes_nothing() {
    let mut archive = Archive::default();
    let ids = ids(3);
    append(&mut archive, &ids[..1], 1);
    let good = archive.file.take();
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("read-only");
    std::fs::write(&path, "").unwrap();
    archive.file = Some(Arc::new(File::open(&path).unwrap()));
    assert!(archive.append(&[&record(ids[1], 1)]).is_err());
    archive.file = good;
    assert_eq!((starts(&archive, ids[0]), starts(&archive, ids[1])), (Some(1), None));
    append(&mut archive, &ids[1..], 2);
    assert_eq!((starts(&archive, ids[1]), starts(&archive, ids[2])), (Some(2), Some(2)));

    let mut nowhere = Archive { path: Some(directory.path().join("no/such")), ..Archive::default() };
    assert!(nowhere.append(&[&record(ids[1], 1)]).is_err());
}

#[test]
fn an_append_has_its_limit() {
    let mut archive = Archive::default();
    let mut big = record(SessionId::fresh(), 1);
    big.page.keys = vec!["k".repeat(APPEND_BYTES / 2).into()];
    let next = Record { session: Session { id: SessionId::fresh(), ..big.session.clone() }, ..big.clone() };
    let last = record(SessionId::fresh(), 1);
    assert_eq!(archive.append(&[&big, &next, &last]).unwrap(), 2);
    assert_eq!(archive.append(&[&last]).unwrap(), 1);
    // A block takes nothing more when its bytes are too many for a look-up.
    assert_eq!(archive.blocks.len(), 3);
    assert_eq!(starts(&archive, next.session.id), Some(1));
}
