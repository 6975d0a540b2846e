//! Who may call.

use std::io::Read;
use std::os::unix::fs::PermissionsExt;

use cove_content::volumes::Volumes;

use crate::world::{SOON, World};

#[tokio::test]
async fn another_user_is_turned_away_even_where_the_socket_lets_everybody_in() {
    if !rustix::process::geteuid().is_root() {
        eprintln!("skipped: only root can be another user");
        return;
    }
    let world = World::start();
    let open = |path: &std::path::Path, mode| {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
    };
    open(world.socket.parent().unwrap(), 0o755);
    open(&world.socket, 0o666);
    let socket = world.socket.clone();
    let read = tokio::task::spawn_blocking(|| {
        // the user of one thread that ends with it, not of the process
        let stranger = std::thread::spawn(move || {
            let nobody = rustix::process::Uid::from_raw(65534);
            rustix::thread::set_thread_res_uid(nobody, nobody, nobody).unwrap();
            let mut stream = std::os::unix::net::UnixStream::connect(socket).unwrap();
            stream.set_read_timeout(Some(SOON)).unwrap();
            let mut byte = [0];
            stream.read(&mut byte).map_err(|error| error.kind())
        });
        stranger.join().unwrap()
    });
    let read = read.await.unwrap();
    assert!(matches!(read, Ok(0) | Err(std::io::ErrorKind::ConnectionReset)), "{read:?}");
    world.client().capacity().await.unwrap();
    assert_eq!(world.volumes.calls().len(), 1);
}
