//! What processes and the database have used so far, from `/proc` and from Postgres itself. Linux only.

use sqlx::{AssertSqlSafe, Connection, PgConnection};
use std::{fs, ops::Sub, time::Duration};

/// Clock ticks in a second, as `/proc/*/stat` counts.
fn ticks_per_second() -> f64 {
    f64::from(u32::try_from(rustix::param::clock_ticks_per_second()).unwrap())
}

/// Fields of `/proc/<pid>/stat` behind the name, which may hold anything.
fn stat(pid: u32) -> Option<Vec<u64>> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, rest) = text.rsplit_once(')')?;
    Some(rest.split_whitespace().skip(1).map(|field| field.parse().unwrap_or(0)).collect())
}

/// Places behind the name and the state: parent, and CPU of its own and of ended children.
const PARENT: usize = 0;
const OWN: [usize; 2] = [10, 11];
const CHILDREN: [usize; 2] = [12, 13];

fn seconds(ticks: u64) -> f64 {
    f64::from(u32::try_from(ticks).unwrap()) / ticks_per_second()
}

fn sum(fields: &[u64], places: [usize; 2]) -> u64 {
    places.iter().map(|place| fields[*place]).sum()
}

/// CPU seconds of a process.
pub fn cpu(pid: u32) -> f64 {
    stat(pid).map_or(0.0, |fields| seconds(sum(&fields, OWN)))
}

/// CPU seconds of this process.
pub fn own_cpu() -> f64 {
    cpu(std::process::id())
}

/// Resident memory of a process, MiB: the most that it has had, and what it has.
pub fn memory(pid: u32) -> [f64; 2] {
    ["VmHWM:", "VmRSS:"].map(|what| of_status(pid, what))
}

/// The most resident memory that a process has had, MiB.
pub fn most_memory(pid: u32) -> f64 {
    of_status(pid, "VmHWM:")
}

fn of_status(pid: u32, what: &str) -> f64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix(what));
    let kib: u32 = line.and_then(|line| line.split_whitespace().next()?.parse().ok()).unwrap_or(0);
    f64::from(kib) / 1024.0
}

/// Looks at one Postgres server.
pub struct Postgres {
    db: PgConnection,
    postmaster: u32,
    /// 160004 is 16.4.
    version: i32,
}

/// Postgres 18 counts the fsyncs of its WAL elsewhere.
const FSYNCS: &str = "SELECT sum(fsyncs) FROM pg_stat_io WHERE object = 'wal'";
const FSYNCS_BEFORE_18: &str = "SELECT wal_sync FROM pg_stat_wal";

impl Postgres {
    pub async fn open(url: &str) -> Self {
        let mut db = PgConnection::connect(url).await.unwrap();
        let who = "SELECT pg_backend_pid(), current_setting('server_version_num')::integer";
        let (backend, version): (i32, i32) = sqlx::query_as(who).fetch_one(&mut db).await.unwrap();
        let fields = stat(u32::try_from(backend).unwrap()).unwrap();
        Self { db, postmaster: u32::try_from(fields[PARENT]).unwrap(), version }
    }

    /// CPU seconds of the server and of all its processes, ended ones included.
    fn cpu(&self) -> f64 {
        let own = stat(self.postmaster).unwrap();
        let mut ticks = sum(&own, OWN) + sum(&own, CHILDREN);
        for entry in fs::read_dir("/proc").unwrap().flatten() {
            let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
            if let Some(fields) = stat(pid)
                && fields[PARENT] == u64::from(self.postmaster)
            {
                ticks += sum(&fields, OWN);
            }
        }
        seconds(ticks)
    }

    pub async fn used(&mut self) -> Used {
        // Backends report what they did when they are idle, at most once a second.
        tokio::time::sleep(Duration::from_millis(1_100)).await;
        let cpu = self.cpu();
        let sql = format!(
            "SELECT (pg_current_wal_lsn() - '0/0')::bigint, (SELECT wal_fpi FROM pg_stat_wal), ({})::bigint,
                (SELECT sum(xact_commit)::bigint FROM pg_stat_database)",
            if self.version >= 180_000 { FSYNCS } else { FSYNCS_BEFORE_18 }
        );
        let used = sqlx::query_as(AssertSqlSafe(sql));
        let (wal, pages, fsyncs, commits): (i64, i64, i64, i64) = used.fetch_one(&mut self.db).await.unwrap();
        let [wal, pages, fsyncs, commits] = [wal, pages, fsyncs, commits].map(float);
        Used { cpu, wal, pages, fsyncs, commits }
    }

    /// Changes settings of the server: `wal_compression = on`.
    pub async fn set(&mut self, settings: &[String]) {
        for setting in settings {
            let sql = format!("ALTER SYSTEM SET {setting}");
            sqlx::raw_sql(AssertSqlSafe(sql)).execute(&mut self.db).await.unwrap();
        }
        sqlx::query("SELECT pg_reload_conf()").execute(&mut self.db).await.unwrap();
    }

    pub async fn checkpoint(&mut self) {
        sqlx::query("CHECKPOINT").execute(&mut self.db).await.unwrap();
    }
}

pub fn float(count: i64) -> f64 {
    // Exact up to 2^53, which none of these counts comes near.
    count.to_string().parse().unwrap()
}

/// What a Postgres server has used: seconds of CPU, bytes of WAL, whole pages in it, fsyncs of it, commits.
#[derive(Clone, Copy, Debug, Default)]
pub struct Used {
    pub cpu: f64,
    pub wal: f64,
    pub pages: f64,
    pub fsyncs: f64,
    pub commits: f64,
}

impl Sub for Used {
    type Output = Self;

    fn sub(self, before: Self) -> Self {
        Self {
            cpu: self.cpu - before.cpu,
            wal: self.wal - before.wal,
            pages: self.pages - before.pages,
            fsyncs: self.fsyncs - before.fsyncs,
            commits: self.commits - before.commits,
        }
    }
}

/// The value below which this share of `times` lies, in milliseconds.
pub fn quantile(times: &mut [Duration], share: f64) -> f64 {
    if times.is_empty() {
        return f64::NAN;
    }
    times.sort_unstable();
    let last = f64::from(u32::try_from(times.len() - 1).unwrap());
    let place = (last * share).round().to_string().parse::<usize>().unwrap();
    times[place].as_secs_f64() * 1e3
}
