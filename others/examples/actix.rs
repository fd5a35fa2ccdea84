//! actix-web with a limit of 4 MiB. The probe's evidence page has its results.

use actix_web::{
    App, HttpServer, rt,
    web::{self, Bytes, PayloadConfig},
};

const LIMIT: usize = 4 << 20;

async fn count(body: Bytes) -> String {
    format!("{} bytes\n", body.len())
}

fn main() -> std::io::Result<()> {
    rt::System::new().block_on(async {
        let app = || {
            App::new()
                .app_data(PayloadConfig::new(LIMIT))
                .route("/", web::post().to(count))
        };
        let server = HttpServer::new(app).workers(1).bind("127.0.0.1:0")?;
        for addr in server.addrs() {
            println!("listening on http://{addr}");
        }
        server.run().await
    })
}
