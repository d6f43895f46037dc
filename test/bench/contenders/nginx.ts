// nginx, one worker, with what event streams need: HTTP/1.1 to the upstream, and no buffering.

import { backlog, type Place } from './place.ts'

export function nginxConfig(place: Place, folder: string): string {
  return config(place, folder, 'http', place.upstreamPorts[0])
}

export function nginxTlsConfig(place: Place, folder: string): string {
  return config(place, folder, 'https', place.tlsPort)
}

function config({ port }: Place, folder: string, protocol: string, upstreamPort = 0): string {
  const folders = ['client_body', 'proxy', 'fastcgi', 'uwsgi', 'scgi']
  return `
worker_processes 1;
worker_rlimit_nofile 24000;
daemon off;
pid ${folder}/nginx.pid;
error_log /dev/null crit;
events { worker_connections 24000; }
http {
  access_log off;
  ${folders.map((name) => `${name}_temp_path ${folder}/${name};`).join('\n  ')}
  upstream backend { server 127.0.0.1:${upstreamPort} max_fails=0; }
  server {
    listen 127.0.0.1:${port} backlog=${backlog};
    location / {
      proxy_pass ${protocol}://backend;
      proxy_http_version 1.1;
      proxy_set_header Connection "";
      proxy_buffering off;
      proxy_read_timeout 1h;
    }
  }
}
`
}
