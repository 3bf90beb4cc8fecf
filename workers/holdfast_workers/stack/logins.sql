-- The statement that gives login $1 the password $2 and membership in group $3.
-- A utility statement takes no parameters, so the server quotes them and the caller executes the answer.
SELECT format(
    CASE
        WHEN EXISTS (SELECT FROM pg_roles WHERE rolname = $1::text)
        THEN 'ALTER ROLE %1$I LOGIN PASSWORD %2$L'
        ELSE 'CREATE ROLE %1$I LOGIN PASSWORD %2$L IN ROLE %3$I'
    END,
    $1::text, $2::text, $3::text
);
