//! Which stores this node has held.

use super::NodeDatabase;
use crate::DatabaseError;
use crate::error::failed;

impl NodeDatabase {
    /// Remembers that the store at `location` was held from here, for ever. May be repeated.
    ///
    /// A store that was held has a record of who holds it. Where that record is missing later, the disk
    /// of the store is away or somebody emptied it: it is no fresh store that may be taken.
    ///
    /// # Errors
    ///
    /// It may or may not be written.
    pub async fn put_held(&self, location: &str, now_us: i64) -> Result<(), DatabaseError> {
        sqlx::query(
            "INSERT INTO held_stores (location, since_us) VALUES ($1, $2) \
             ON CONFLICT (location) DO NOTHING",
        )
        .bind(location)
        .bind(now_us)
        .execute(&self.0.writer)
        .await
        .map_err(failed("write that a store is held"))?;
        Ok(())
    }

    /// Whether the store at `location` was ever held from here.
    ///
    /// # Errors
    ///
    /// It could not be read.
    pub async fn was_held(&self, location: &str) -> Result<bool, DatabaseError> {
        let row = sqlx::query("SELECT 1 FROM held_stores WHERE location = $1")
            .bind(location)
            .fetch_optional(&self.0.readers)
            .await
            .map_err(failed("read which stores were held"))?;
        Ok(row.is_some())
    }
}
