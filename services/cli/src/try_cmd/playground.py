# The web servers of `portmaster try`'s playground: HTTP and TLS on each address given, and a line-by-line echo on port 7.
import http.server, socket, socketserver, ssl, sys, threading

certificate, addresses = sys.argv[1], sys.argv[2:]


class Site(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        said = self.client_address[0] if self.path == "/address" else f"Hello from {self.headers.get('Host', 'here')}"
        body = f"{said}\n".encode()
        self.send_response(200)
        self.send_header("Content-Type", "text/plain")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


class Echo(socketserver.StreamRequestHandler):
    def handle(self):
        for line in self.rfile:
            self.wfile.write(line)


class Tls(http.server.ThreadingHTTPServer):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)

    # On the connection's own thread: a client that is slow, or says nothing, holds up nobody else.
    def finish_request(self, request, address):
        with self.context.wrap_socket(request, server_side=True) as secured:
            super().finish_request(secured, address)

    def handle_error(self, *_):
        pass


class EchoServer(socketserver.ThreadingTCPServer):
    daemon_threads = True
    allow_reuse_address = True
    request_queue_size = 128


Tls.context.load_cert_chain(certificate)
for address in addresses:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    for server, handler, port in [(http.server.ThreadingHTTPServer, Site, 80), (Tls, Site, 443), (EchoServer, Echo, 7)]:
        here = type(server.__name__, (server,), {"address_family": family, "request_queue_size": 128})
        threading.Thread(target=here((address, port), handler).serve_forever, daemon=True).start()
threading.Event().wait()
