-- A role and a database of its own for the application. Change the password with a secret of yours.
CREATE ROLE app LOGIN PASSWORD 'change-me';
CREATE DATABASE app OWNER app;
