/*
 * A stand-in for pgvector where tests run without it: types vector and halfvec with pgvector's layout, text, binary and error
 * texts, the casts between them and arrays, and distances, those of bits too. No access method and no speed. Written from
 * the layout and behaviour that clients and other extensions rely on; it holds no code of pgvector's.
 */
#include "postgres.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>

#include "catalog/pg_type.h"
#include "common/shortest_dec.h"
#include "fmgr.h"
#include "lib/stringinfo.h"
#include "libpq/pqformat.h"
#include "port/pg_bitutils.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/float.h"
#include "utils/lsyscache.h"
#include "utils/varbit.h"

PG_MODULE_MAGIC;

#define MAX_DIMENSIONS 16000

typedef struct
{
	const char *name;
	bool		half;
} Type;

static const Type vector_type = {"vector", false};
static const Type halfvec_type = {"halfvec", true};

typedef struct
{
	int32		vl_len_;
	int16		dimensions;
	int16		unused;			/* 0 */
	char		elements[FLEXIBLE_ARRAY_MEMBER];
} Vector;

/* Defines the SQL-callable functions vector_<name> and halfvec_<name>. */
#define FOR_BOTH_TYPES(name) \
	PG_FUNCTION_INFO_V1(vector_##name); \
	Datum vector_##name(PG_FUNCTION_ARGS) { return name(fcinfo, &vector_type); } \
	PG_FUNCTION_INFO_V1(halfvec_##name); \
	Datum halfvec_##name(PG_FUNCTION_ARGS) { return name(fcinfo, &halfvec_type); }

static float
get(const Vector *vector, const Type *type, int i)
{
	return type->half ? (float) ((const _Float16 *) vector->elements)[i] : ((const float *) vector->elements)[i];
}

static void
set(Vector *vector, const Type *type, int i, float value)
{
	if (isnan(value))
		ereport(ERROR, (errcode(ERRCODE_DATA_EXCEPTION), errmsg("NaN not allowed in %s", type->name)));
	if (isinf(value))
		ereport(ERROR, (errcode(ERRCODE_DATA_EXCEPTION), errmsg("infinite value not allowed in %s", type->name)));
	if (!type->half)
		((float *) vector->elements)[i] = value;
	else if (isinf((float) (_Float16) value))
	{
		char		text[FLOAT_SHORTEST_DECIMAL_LEN];

		float_to_shortest_decimal_buf(value, text);
		ereport(ERROR, (errcode(ERRCODE_NUMERIC_VALUE_OUT_OF_RANGE), errmsg("\"%s\" is out of range for type %s", text, type->name)));
	}
	else
		((_Float16 *) vector->elements)[i] = (_Float16) value;
}

static Vector *
new_vector(const Type *type, int dimensions, int32 typmod)
{
	Size		size = offsetof(Vector, elements) + (Size) Max(dimensions, 0) * (type->half ? 2 : 4);
	Vector	   *vector;

	if (dimensions < 1)
		ereport(ERROR, (errcode(ERRCODE_DATA_EXCEPTION), errmsg("%s must have at least 1 dimension", type->name)));
	if (dimensions > MAX_DIMENSIONS)
		ereport(ERROR, (errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
						errmsg("%s cannot have more than %d dimensions", type->name, MAX_DIMENSIONS)));
	if (typmod != -1 && typmod != dimensions)
		ereport(ERROR, (errcode(ERRCODE_DATA_EXCEPTION), errmsg("expected %d dimensions, not %d", typmod, dimensions)));
	vector = palloc0(size);
	SET_VARSIZE(vector, size);
	vector->dimensions = dimensions;
	return vector;
}

static Vector *
argument(FunctionCallInfo fcinfo, int i)
{
	return (Vector *) PG_DETOAST_DATUM(PG_GETARG_DATUM(i));
}

/* Input and output */

static const char *
skip_spaces(const char *at)
{
	while (*at == ' ' || (*at >= '\t' && *at <= '\r'))
		at++;
	return at;
}

static Datum
read_text(FunctionCallInfo fcinfo, const Type *type)
{
	const char *text = PG_GETARG_CSTRING(0),
			   *at = skip_spaces(text);
	float	   *values = palloc(sizeof(float) * MAX_DIMENSIONS);
	int			n = 0;
	Vector	   *vector;

	if (*at != '[')
		goto invalid;
	at = skip_spaces(at + 1);
	while (*at != ']' || n > 0)
	{
		char	   *end;

		if (n == MAX_DIMENSIONS)
			new_vector(type, n + 1, -1);	/* raises the error */
		errno = 0;
		values[n] = strtof(at, &end);
		if (end == at)
			goto invalid;
		if (errno == ERANGE && isinf(values[n]))
			ereport(ERROR, (errcode(ERRCODE_NUMERIC_VALUE_OUT_OF_RANGE),
							errmsg("\"%s\" is out of range for type %s", pnstrdup(at, end - at), type->name)));
		n++;
		at = skip_spaces(end);
		if (*at != ',')
			break;
		at = skip_spaces(at + 1);
	}
	if (*at != ']' || *skip_spaces(at + 1) != '\0')
		goto invalid;

	vector = new_vector(type, n, PG_GETARG_INT32(2));
	for (int i = 0; i < n; i++)
		set(vector, type, i, values[i]);
	PG_RETURN_POINTER(vector);

invalid:
	ereport(ERROR, (errcode(ERRCODE_INVALID_TEXT_REPRESENTATION),
					errmsg("invalid input syntax for type %s: \"%s\"", type->name, text)));
}

static Datum
write_text(FunctionCallInfo fcinfo, const Type *type)
{
	Vector	   *vector = argument(fcinfo, 0);
	char	   *text = palloc(vector->dimensions * FLOAT_SHORTEST_DECIMAL_LEN + 3),
			   *at = text;

	for (int i = 0; i < vector->dimensions; i++)
	{
		*at++ = i == 0 ? '[' : ',';
		at += float_to_shortest_decimal_bufn(get(vector, type, i), at);
	}
	strcpy(at, "]");
	PG_RETURN_CSTRING(text);
}

static Datum
read_binary(FunctionCallInfo fcinfo, const Type *type)
{
	StringInfo	message = (StringInfo) PG_GETARG_POINTER(0);
	int			dimensions = (int16) pq_getmsgint(message, 2),
				unused = (int16) pq_getmsgint(message, 2);
	Vector	   *vector = new_vector(type, dimensions, PG_GETARG_INT32(2));

	if (unused != 0)
		ereport(ERROR, (errcode(ERRCODE_DATA_EXCEPTION), errmsg("expected unused to be 0, not %d", unused)));
	for (int i = 0; i < dimensions; i++)
	{
		if (type->half)
		{
			uint16		bits = pq_getmsgint(message, 2);
			_Float16	half;

			memcpy(&half, &bits, sizeof(half));
			set(vector, type, i, (float) half);
		}
		else
			set(vector, type, i, pq_getmsgfloat4(message));
	}
	PG_RETURN_POINTER(vector);
}

static Datum
write_binary(FunctionCallInfo fcinfo, const Type *type)
{
	Vector	   *vector = argument(fcinfo, 0);
	StringInfoData message;

	pq_begintypsend(&message);
	pq_sendint16(&message, vector->dimensions);
	pq_sendint16(&message, vector->unused);
	for (int i = 0; i < vector->dimensions; i++)
	{
		if (type->half)
			pq_sendint16(&message, ((uint16 *) vector->elements)[i]);
		else
			pq_sendfloat4(&message, get(vector, type, i));
	}
	PG_RETURN_BYTEA_P(pq_endtypsend(&message));
}

static Datum
read_typmod(FunctionCallInfo fcinfo, const Type *type)
{
	int			n;
	int32	   *typmods = ArrayGetIntegerTypmods(PG_GETARG_ARRAYTYPE_P(0), &n);

	if (n != 1)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("invalid type modifier")));
	if (typmods[0] < 1)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("dimensions for type %s must be at least 1", type->name)));
	if (typmods[0] > MAX_DIMENSIONS)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("dimensions for type %s cannot exceed %d", type->name, MAX_DIMENSIONS)));
	PG_RETURN_INT32(typmods[0]);
}

FOR_BOTH_TYPES(read_text)
FOR_BOTH_TYPES(write_text)
FOR_BOTH_TYPES(read_binary)
FOR_BOTH_TYPES(write_binary)
FOR_BOTH_TYPES(read_typmod)

/* Casts: (value, typmod, explicit) */

static Datum
convert(FunctionCallInfo fcinfo, const Type *from, const Type *to)
{
	Vector	   *source = argument(fcinfo, 0),
			   *vector = new_vector(to, source->dimensions, PG_GETARG_INT32(1));

	for (int i = 0; i < source->dimensions; i++)
		set(vector, to, i, get(source, from, i));
	PG_RETURN_POINTER(vector);
}

static Datum
to_vector(FunctionCallInfo fcinfo, const Type *type)
{
	return convert(fcinfo, type, &vector_type);
}

static Datum
to_halfvec(FunctionCallInfo fcinfo, const Type *type)
{
	return convert(fcinfo, type, &halfvec_type);
}

static Datum
from_array(FunctionCallInfo fcinfo, const Type *type)
{
	ArrayType  *array = PG_GETARG_ARRAYTYPE_P(0);
	Oid			element = ARR_ELEMTYPE(array);
	int16		length;
	bool		by_value;
	char		alignment;
	Datum	   *values;
	int			n;
	Vector	   *vector;

	if (ARR_NDIM(array) > 1)
		ereport(ERROR, (errcode(ERRCODE_DATA_EXCEPTION), errmsg("array must be 1-D")));
	if (ARR_HASNULL(array) && array_contains_nulls(array))
		ereport(ERROR, (errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED), errmsg("array must not contain nulls")));
	get_typlenbyvalalign(element, &length, &by_value, &alignment);
	deconstruct_array(array, element, length, by_value, alignment, &values, NULL, &n);
	vector = new_vector(type, n, PG_GETARG_INT32(1));
	for (int i = 0; i < n; i++)
	{
		float		value = element == INT4OID ? DatumGetInt32(values[i])
			: element == FLOAT4OID ? DatumGetFloat4(values[i])
			: element == FLOAT8OID ? DatumGetFloat8(values[i])
			: DatumGetFloat4(DirectFunctionCall1(numeric_float4, values[i]));

		set(vector, type, i, value);
	}
	PG_RETURN_POINTER(vector);
}

static Datum
to_array(FunctionCallInfo fcinfo, const Type *type)
{
	Vector	   *vector = argument(fcinfo, 0);
	Datum	   *values = palloc(sizeof(Datum) * vector->dimensions);

	for (int i = 0; i < vector->dimensions; i++)
		values[i] = Float4GetDatum(get(vector, type, i));
	PG_RETURN_ARRAYTYPE_P(construct_array(values, vector->dimensions, FLOAT4OID, sizeof(float), true, TYPALIGN_INT));
}

FOR_BOTH_TYPES(to_vector)
FOR_BOTH_TYPES(to_halfvec)
FOR_BOTH_TYPES(from_array)
FOR_BOTH_TYPES(to_array)

/* Distances, summed in float4 as pgvector sums them: what rests on more precision is to be found out */

typedef struct
{
	float		squared_distance,
				product,
				left,			/* squared norms */
				right;
} Sums;

static Sums
sums(const Vector *left, const Vector *right, const Type *type)
{
	Sums		sums = {0};

	if (left->dimensions != right->dimensions)
		ereport(ERROR, (errcode(ERRCODE_DATA_EXCEPTION),
						errmsg("different %s dimensions %d and %d", type->name, left->dimensions, right->dimensions)));
	for (int i = 0; i < left->dimensions; i++)
	{
		float		l = get(left, type, i),
					r = get(right, type, i);

		sums.squared_distance += (l - r) * (l - r);
		sums.product += l * r;
		sums.left += l * l;
		sums.right += r * r;
	}
	return sums;
}

static Datum
l2_distance(FunctionCallInfo fcinfo, const Type *type)
{
	PG_RETURN_FLOAT8(sqrt((double) sums(argument(fcinfo, 0), argument(fcinfo, 1), type).squared_distance));
}

static Datum
l2_squared_distance(FunctionCallInfo fcinfo, const Type *type)
{
	PG_RETURN_FLOAT8((double) sums(argument(fcinfo, 0), argument(fcinfo, 1), type).squared_distance);
}

static Datum
inner_product(FunctionCallInfo fcinfo, const Type *type)
{
	PG_RETURN_FLOAT8((double) sums(argument(fcinfo, 0), argument(fcinfo, 1), type).product);
}

static Datum
negative_inner_product(FunctionCallInfo fcinfo, const Type *type)
{
	PG_RETURN_FLOAT8(-(double) sums(argument(fcinfo, 0), argument(fcinfo, 1), type).product);
}

static Datum
cosine_distance(FunctionCallInfo fcinfo, const Type *type)
{
	Sums		s = sums(argument(fcinfo, 0), argument(fcinfo, 1), type);
	double		similarity = (double) s.product / sqrt((double) s.left * (double) s.right);

	/* A NaN, of a zero vector, stays. */
	PG_RETURN_FLOAT8(1.0 - (similarity > 1.0 ? 1.0 : similarity < -1.0 ? -1.0 : similarity));
}

static Datum
norm(FunctionCallInfo fcinfo, const Type *type)
{
	Vector	   *vector = argument(fcinfo, 0);
	double		sum = 0;

	for (int i = 0; i < vector->dimensions; i++)
		sum += (double) get(vector, type, i) * get(vector, type, i);
	PG_RETURN_FLOAT8(sqrt(sum));
}

static Datum
dims(FunctionCallInfo fcinfo, const Type *type)
{
	PG_RETURN_INT32(argument(fcinfo, 0)->dimensions);
}

/* A bit for each dimension, 1 if it is positive. */
static Datum
binary_quantize(FunctionCallInfo fcinfo, const Type *type)
{
	Vector	   *vector = argument(fcinfo, 0);
	VarBit	   *bits = palloc0(VARBITTOTALLEN(vector->dimensions));

	SET_VARSIZE(bits, VARBITTOTALLEN(vector->dimensions));
	VARBITLEN(bits) = vector->dimensions;
	for (int i = 0; i < vector->dimensions; i++)
		if (get(vector, type, i) > 0)
			VARBITS(bits)[i / 8] |= 0x80 >> i % 8;
	PG_RETURN_VARBIT_P(bits);
}

FOR_BOTH_TYPES(l2_distance)
FOR_BOTH_TYPES(l2_squared_distance)
FOR_BOTH_TYPES(inner_product)
FOR_BOTH_TYPES(negative_inner_product)
FOR_BOTH_TYPES(cosine_distance)
FOR_BOTH_TYPES(norm)
FOR_BOTH_TYPES(dims)
FOR_BOTH_TYPES(binary_quantize)

PG_FUNCTION_INFO_V1(hamming_distance);
Datum
hamming_distance(PG_FUNCTION_ARGS)
{
	VarBit	   *left = PG_GETARG_VARBIT_P(0),
			   *right = PG_GETARG_VARBIT_P(1);
	int			differing = 0;

	if (VARBITLEN(left) != VARBITLEN(right))
		ereport(ERROR, (errcode(ERRCODE_DATA_EXCEPTION),
						errmsg("different bit lengths %u and %u", VARBITLEN(left), VARBITLEN(right))));
	for (int i = 0; i < VARBITBYTES(left); i++)
		differing += pg_number_of_ones[VARBITS(left)[i] ^ VARBITS(right)[i]];
	PG_RETURN_FLOAT8(differing);
}
