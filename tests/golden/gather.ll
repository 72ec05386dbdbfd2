define internal void @gather.tiles(ptr noalias readonly %in0, ptr noalias readonly %in1, ptr noalias %out, i64 %first, i64 %last) noinline nounwind "prefer-vector-width"="512" {
entry:
  br label %body0
body0:
  %r0 = phi i64 [ 0, %entry ], [ %next0, %latch0 ]
  %v1 = mul i64 %r0, 4
  %v2 = getelementptr i32, ptr %in1, i64 %v1
  %v3 = load <4 x i32>, ptr %v2, align 4
  %v4 = sext <4 x i32> %v3 to <4 x i64>
  %v5 = extractelement <4 x i64> %v4, i64 0
  %v6 = icmp slt <4 x i64> <i64 -1, i64 -1, i64 -1, i64 -1>, %v4
  %v7 = icmp slt <4 x i64> %v4, <i64 9, i64 9, i64 9, i64 9>
  %v8 = and <4 x i1> %v6, %v7
  %v9 = extractelement <4 x i1> %v8, i64 0
  br i1 %v9, label %load10, label %done10
load10:
  %v11 = getelementptr i8, ptr %in0, i64 %v5
  %v12 = load i8, ptr %v11, align 1
  br label %done10
done10:
  %v13 = phi i8 [ %v12, %load10 ], [ 0, %body0 ]
  %v14 = extractelement <4 x i64> %v4, i64 1
  %v15 = extractelement <4 x i1> %v8, i64 1
  br i1 %v15, label %load16, label %done16
load16:
  %v17 = getelementptr i8, ptr %in0, i64 %v14
  %v18 = load i8, ptr %v17, align 1
  br label %done16
done16:
  %v19 = phi i8 [ %v18, %load16 ], [ 0, %done10 ]
  %v20 = extractelement <4 x i64> %v4, i64 2
  %v21 = extractelement <4 x i1> %v8, i64 2
  br i1 %v21, label %load22, label %done22
load22:
  %v23 = getelementptr i8, ptr %in0, i64 %v20
  %v24 = load i8, ptr %v23, align 1
  br label %done22
done22:
  %v25 = phi i8 [ %v24, %load22 ], [ 0, %done16 ]
  %v26 = extractelement <4 x i64> %v4, i64 3
  %v27 = extractelement <4 x i1> %v8, i64 3
  br i1 %v27, label %load28, label %done28
load28:
  %v29 = getelementptr i8, ptr %in0, i64 %v26
  %v30 = load i8, ptr %v29, align 1
  br label %done28
done28:
  %v31 = phi i8 [ %v30, %load28 ], [ 0, %done22 ]
  %v32 = insertelement <4 x i8> poison, i8 %v13, i64 0
  %v33 = insertelement <4 x i8> %v32, i8 %v19, i64 1
  %v34 = insertelement <4 x i8> %v33, i8 %v25, i64 2
  %v35 = insertelement <4 x i8> %v34, i8 %v31, i64 3
  %v36 = getelementptr i8, ptr %out, i64 %v1
  store <4 x i8> %v35, ptr %v36, align 1
  br label %latch0
latch0:
  %next0 = add nuw nsw i64 %r0, 1
  %v37 = icmp slt i64 %next0, 4
  br i1 %v37, label %body0, label %exit0
exit0:
  ret void
}
define void @gather(ptr %buffers, i64 %first, i64 %last) nounwind "prefer-vector-width"="512" {
  %p1 = getelementptr ptr, ptr %buffers, i64 1
  %b1 = load ptr, ptr %p1
  %p2 = getelementptr ptr, ptr %buffers, i64 2
  %b2 = load ptr, ptr %p2
  %p0 = getelementptr ptr, ptr %buffers, i64 0
  %b0 = load ptr, ptr %p0
  call void @gather.tiles(ptr %b1, ptr %b2, ptr %b0, i64 %first, i64 %last)
  ret void
}
