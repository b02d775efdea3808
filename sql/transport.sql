-- What protects the client's connection on its way; see src/transport.c.

CREATE FUNCTION leyser.require_transport() RETURNS void
    LANGUAGE c VOLATILE PARALLEL RESTRICTED AS 'MODULE_PATHNAME', 'leyser_transport_require_sql';
REVOKE ALL ON FUNCTION leyser.require_transport() FROM PUBLIC;
COMMENT ON FUNCTION leyser.require_transport() IS
    'internal: 28000 on a connection over a network without TLS 1.2 or later, while leyser.require_tls is on';

CREATE FUNCTION leyser.own_connection(OUT transport text, OUT tls_version text, OUT cipher text, OUT accepted boolean)
    LANGUAGE c STABLE PARALLEL RESTRICTED AS 'MODULE_PATHNAME', 'leyser_transport_own';
REVOKE ALL ON FUNCTION leyser.own_connection() FROM PUBLIC;
COMMENT ON FUNCTION leyser.own_connection() IS
    'internal: what protects the connection of whoever calls (transport: none, socket, loopback or network), and whether tokens are accepted on it';
