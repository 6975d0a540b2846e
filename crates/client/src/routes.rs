//! The calls of the API that this client makes; a test holds them against its OpenAPI file.

/// One call: its method and its path with `{…}` for what varies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Route {
    /// The method, in capitals.
    pub method: &'static str,
    /// The path below `/v1`.
    pub template: &'static str,
}

/// Defines the routes and the list of them all.
macro_rules! routes {
    ($($(#[$doc:meta])* $name:ident = $method:literal $template:literal;)*) => {
        $($(#[$doc])* pub const $name: Route = Route { method: $method, template: $template };)*
        /// All of them.
        pub const ALL: &[Route] = &[$($name),*];
    };
}

routes! {
    /// Whether it serves.
    HEALTH = "GET" "/health";
    /// Stops Cove.
    DOWN = "POST" "/down";
    /// Lists projects.
    LIST = "GET" "/projects";
    /// Makes a project.
    CREATE = "POST" "/projects";
    /// Shows a project.
    SHOW = "GET" "/projects/{slug}";
    /// Renames a project.
    RENAME = "PATCH" "/projects/{slug}";
    /// Moves a project to the trash.
    TRASH = "DELETE" "/projects/{slug}";
    /// Brings a project or one of its entries back.
    UNDELETE = "POST" "/projects/{slug}/undelete";
    /// Makes projects that begin at a moment of another.
    FORK = "POST" "/projects/{slug}/fork";
    /// Lists volumes.
    VOLUMES = "GET" "/volumes";
    /// Shows a volume.
    VOLUME = "GET" "/volumes/{volume}";
    /// Lists a timeline.
    TIMELINE = "GET" "/projects/{slug}/entries";
    /// Makes an entry.
    SNAPSHOT = "POST" "/projects/{slug}/entries";
    /// Pins or labels an entry.
    EDIT_ENTRY = "PATCH" "/projects/{slug}/entries/{at}";
    /// Moves an entry to the trash.
    TRASH_ENTRY = "DELETE" "/projects/{slug}/entries/{at}";
    /// Goes back to an entry.
    RESTORE = "POST" "/projects/{slug}/restore";
    /// Waits until everything captured is saved.
    WAIT = "GET" "/projects/{slug}/wait";
    /// Compares two moments.
    DIFF = "GET" "/diff";
    /// Lists a directory.
    FILES = "GET" "/projects/{slug}/files";
    /// Shows one file.
    STAT = "GET" "/projects/{slug}/files/stat";
    /// Finds files by name.
    FIND = "GET" "/projects/{slug}/files/find";
    /// Finds lines by pattern.
    GREP = "GET" "/projects/{slug}/files/grep";
    /// Reads a file.
    READ = "GET" "/projects/{slug}/files/content";
    /// Replaces a file.
    PUT = "PUT" "/projects/{slug}/files/content";
    /// Removes a path.
    REMOVE = "DELETE" "/projects/{slug}/files";
    /// Moves a path.
    MOVE = "POST" "/projects/{slug}/files/move";
    /// Makes a directory.
    MAKE_DIRECTORY = "POST" "/projects/{slug}/files/directory";
    /// Reads a path with everything below as a tar stream.
    EXPORT = "GET" "/projects/{slug}/files/archive";
    /// Extracts a tar stream below a directory.
    EXTRACT = "PUT" "/projects/{slug}/files/archive";
    /// Checks what is stored.
    VERIFY = "POST" "/verify";
    /// Checks this Cove.
    DOCTOR = "GET" "/doctor";
    /// Takes a store over.
    RECOVER = "POST" "/recover";
    /// Looks how far work is.
    OPERATION = "GET" "/operations/{id}";
}
